"""Derivatives of functions, as they are called from Python: values are checked, then one compiled function runs."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import typeof
from numba.core import types
from numba.core.errors import NumbaError

from fgnumba.errors import ConfigError, ShapeError
from fgnumba.functions.arguments import (
    DEFAULT_CHUNK,
    blocks,
    bound_values,
    check_carrier,
    checked_chunk,
    checked_position,
    checked_tangent,
    described,
    filled,
    of_one_argument,
    shape_of,
)
from fgnumba.functions.differentiable import Differentiable, differentiable, names_of
from fgnumba.functions.drivers import (
    derivative_driver,
    gradient_driver,
    hessian_driver,
    hvp_driver,
    jacobian_driver,
    laplacian_driver,
    taylor_driver,
)
from fgnumba.functions.given import apart, tuple_like
from fgnumba.functions.typed import not_compiled, typed_function
from fgnumba.validation import whole_number

MAX_ORDER = 4


def jvp_of_function(function: Any, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Return a function's value and its derivative along tangents; :func:`fgnumba.jvp` has the documentation."""
    function = differentiable(function)
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise ConfigError(
            "jvp: primals and tangents are tuples, an entry for each argument: fg.jvp(f, (x,), (v,))"
        )
    values = bound_values(function, tuple(primals), {})
    if len(tangents) != len(primals):
        raise ConfigError(f"jvp: {len(primals)} primals and {len(tangents)} tangents; as many are required")
    by_name = inspect.signature(function.primal.py_func).bind_partial(*tangents).arguments
    given = [
        checked_tangent(name, value, by_name.get(name), name in function.nondiff)
        for name, value in zip(names_of(function.primal), values, strict=True)
    ]
    given = apart(values, given)
    try:
        value, tangent = function.tangent(*values, *given)
    except NumbaError as error:
        typed_function(function.primal, tuple(map(typeof, values)))
        raise not_compiled(function.primal.py_func, tuple(map(typeof, values)), error) from error
    return value, filled(value, tangent)


def forward_gradient_of_function(function: Any, x: Any, v: Any) -> tuple[Any, Any]:
    """Return f(x) and (∇f(x) · v) v; :func:`fgnumba.forward_gradient` has the documentation."""
    value, derivative = jvp_of_function(function, (x,), (v,))
    if not isinstance(derivative, float | np.floating):
        raise ShapeError(f"forward_gradient: f gives {described(value)}; a number is required")
    return value, _scaled(v, float(derivative))


def _scaled(v: Any, factor: float) -> Any:
    if isinstance(v, tuple):
        return tuple_like(v, [_scaled(member, factor) for member in v])
    if v is None or isinstance(v, int | float):
        return v if v is None else factor * v
    return factor * np.asarray(v)


class Derivative(Differentiable):
    """A derivative of a function: a function itself, in Python and in compiled code.

    Parameters
    ----------
    name : str
        Name of the call that made it, for messages.
    function : Differentiable
        The function that is differentiated.
    driver : numba dispatcher
        The compiled function.
    position : int
        Index of the argument in which it is differentiated.
    number : bool
        Whether the value of the function must be a number.
    """

    def __init__(
        self, name: str, function: Differentiable, driver: Any, position: int = 0, number: bool = True
    ):
        super().__init__(driver)
        self.__name__ = self.__qualname__ = f"{name}({function.__name__})"
        self._name, self._function, self._position, self._number = name, function, position, number

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._run(self._values(arguments, named))

    def __reduce__(self) -> Any:
        raise TypeError(f"{self.__name__} cannot be pickled; pickle the function, and differentiate it again")

    def _values(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
        values = bound_values(self._function, arguments, named)
        here = names_of(self._function.primal)[self._position]
        check_carrier(self._name, here, values[self._position])
        return values

    def _run(self, values: list[Any], *more: Any) -> Any:
        """Call the compiled function; if it does not compile, find out why, in one line."""
        try:
            return self.primal(*values, *more)
        except NumbaError as error:
            result = typed_function(self._function.primal, tuple(map(typeof, values))).return_type
            if self._number and not isinstance(result, types.Number | types.Boolean):
                raise ShapeError(
                    f"{self._name}: {self._function.__name__} gives {result}; a number is required "
                    f"(fg.jacobian takes arrays)"
                ) from None
            raise not_compiled(self._function.primal.py_func, tuple(map(typeof, values)), error) from error


class Jacobian(Derivative):
    """Derivatives of arrays; :func:`jacobian` makes it."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        values = self._values(arguments, named)
        y, numbers = self._run(values)
        return blocks(numbers, y, shape_of(values[self._position]))[0]


class _Shaped(Derivative):
    def __call__(self, *arguments: Any, **named: Any) -> Any:
        values = self._values(arguments, named)
        shape = shape_of(values[0])
        return self._run(values).reshape(shape + shape)


def derivative(f: Any) -> Callable[..., Any]:
    """Return the derivative of a function of one number.

        f'(x)

    Parameters
    ----------
    f : callable
        A function of a float, whose value is a number, an array, or a tuple of them: a Python function, one under
        ``@njit``, or one of :func:`differentiable`.

    Returns
    -------
    callable
        ``derivative(f)(x)``, in the structure of the value. It can be differentiated again.

    Raises
    ------
    ConfigError
        If `f` is no function of one argument.
    DifferentiationError
        At the call: if Numba cannot compile `f`, or something that it does has no derivative rule.
    DtypeError
        At the call: if x is no float.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.derivative(lambda x: x**3)(2.0)
    12.0
    """
    function = of_one_argument("derivative", f)
    return Derivative("derivative", function, derivative_driver(function.primal), number=False)


def gradient(f: Any, argnum: int = 0, *, chunk: int = DEFAULT_CHUNK) -> Callable[..., Any]:
    """Return the gradient of a function whose value is a number, by forward mode.

        ∂f/∂x_i,  i = 1, …, n

    `chunk` unit tangents travel together, so n numbers take ⌈n / chunk⌉ passes.

    Parameters
    ----------
    f : callable
        The function: a Python function, one under ``@njit``, or one of :func:`differentiable`.
    argnum : int, optional
        Index of the argument in which it is differentiated. By default 0.
    chunk : int, optional
        Number of tangents of a pass: 4, 8 or 16. By default 8. A pass needs the memory of f, 1 + chunk times.

    Returns
    -------
    callable
        ``gradient(f)(*arguments)``: the gradient in the structure of the argument, a number, array or tuple.

    Raises
    ------
    ConfigError
        If `f` is no function, has no such argument, or `chunk` is another number.
    DifferentiationError
        At the call: if Numba cannot compile `f`, or something that it does has no derivative rule.
    DtypeError, ShapeError
        At the call: if the argument holds no floats, or the value is no number.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> fg.gradient(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    function = differentiable(f)
    position = checked_position("gradient", function, argnum)
    driver = gradient_driver(function.primal, position, checked_chunk("gradient", chunk))
    return Derivative("gradient", function, driver, position)


def jacobian(f: Any, argnum: int = 0, *, chunk: int = DEFAULT_CHUNK) -> Callable[..., Any]:
    """Return the Jacobian of a function of an array (or number), by forward mode.

        J[i, j] = ∂y_i/∂x_j

    Parameters
    ----------
    f : callable
        The function; its value is an array, a number, or a tuple of them.
    argnum : int, optional
        Index of the argument in which it is differentiated. By default 0.
    chunk : int, optional
        Number of tangents of a pass: 4, 8 or 16. By default 8. Beside the Jacobian itself, a pass needs the memory of
        f 1 + chunk times, however many numbers x has.

    Returns
    -------
    callable
        ``jacobian(f)(*arguments)``, of shape (*y.shape, *x.shape); a tuple of them for a tuple of values.

    Raises
    ------
    ConfigError, DifferentiationError, DtypeError
        As :func:`gradient`.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> fg.jacobian(lambda x: x * x[0])(np.array([2.0, 3.0]))
    array([[4., 0.],
           [3., 2.]])
    """
    function = differentiable(f)
    position = checked_position("jacobian", function, argnum)
    driver = jacobian_driver(function.primal, position, checked_chunk("jacobian", chunk))
    return Jacobian("jacobian", function, driver, position, number=False)


def hvp(f: Any, x: Any, v: Any, *, chunk: int = DEFAULT_CHUNK) -> Any:
    """Return the product of a function's Hessian with a vector.

        (H v)_i = Σ_j ∂²f/∂x_i∂x_j v_j

    Parameters
    ----------
    f : callable
        A function of one argument whose value is a number.
    x : float, array or tuple
        Where.
    v : float, array or tuple
        The vector, in the structure of x.
    chunk : int, optional
        Number of tangents of a pass: 4, 8 or 16. By default 8.

    Returns
    -------
    float, ndarray or tuple
        H v, in the structure of x.

    Raises
    ------
    ConfigError, DifferentiationError, DtypeError, ShapeError
        As :func:`gradient`; ShapeError too if v has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> fg.hvp(lambda x: x[0] ** 2 * x[1], np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    array([4., 2.])
    """
    function = of_one_argument("hvp", f)
    made = Derivative("hvp", function, hvp_driver(function.primal, checked_chunk("hvp", chunk)))
    values = made._values((x,), {})
    return made._run(values, checked_tangent("v", values[0], v, False))


def hessian(f: Any, *, chunk: int = DEFAULT_CHUNK) -> Callable[..., Any]:
    """Return the Hessian of a function of an array (or number), by hyper-dual numbers: exact, without differences.

        H[i, j] = ∂²f/∂x_i∂x_j

    Parameters
    ----------
    f : callable
        A function of one argument whose value is a number.
    chunk : int, optional
        Number of second tangents of a pass: 4, 8 or 16. By default 8.

    Returns
    -------
    callable
        ``hessian(f)(x)``, of shape (*x.shape, *x.shape).

    Raises
    ------
    ConfigError, DifferentiationError, DtypeError, ShapeError
        As :func:`gradient`.

    Notes
    -----
    Source: J. A. Fike and J. J. Alonso, The development of hyper-dual numbers for exact second-derivative
    calculations, AIAA 2011-886.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> fg.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    function = of_one_argument("hessian", f)
    return _Shaped("hessian", function, hessian_driver(function.primal, checked_chunk("hessian", chunk)))


def taylor(f: Any, x: Any, v: Any, order: int) -> list[Any]:
    """Return the derivatives of t ↦ f(x + t v) at t = 0.

        dᵏ/dtᵏ f(x + t v),  k = 0, …, order

    Divided by k!, they are the coefficients of the Taylor series.

    Parameters
    ----------
    f : callable
        A function of one argument.
    x : float, array or tuple
        Where.
    v : float, array or tuple
        The direction, in the structure of x.
    order : int
        The highest derivative, 0 to 4. The time of compiling doubles with each.

    Returns
    -------
    list
        order + 1 values in the structure of f's value; the first is f(x).

    Raises
    ------
    ConfigError
        If `order` is no whole number from 0 to 4.
    DifferentiationError, DtypeError, ShapeError
        As :func:`hvp`.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.taylor(lambda x: x**3, 2.0, 1.0, order=4)
    [8.0, 12.0, 12.0, 6.0, 0.0]
    """
    function = of_one_argument("taylor", f)
    order = whole_number("order", order, 0)
    if order > MAX_ORDER:
        raise ConfigError(f"order is {order}; at most {MAX_ORDER}")
    made = Derivative("taylor", function, taylor_driver(function.primal, order), number=False)
    values = made._values((x,), {})
    value, *higher = made._run(values, checked_tangent("v", values[0], v, False))
    return [value, *(filled(value, one) for one in higher)]


def laplacian_of_function(f: Any, *, chunk: int = DEFAULT_CHUNK) -> Callable[..., Any]:
    """Return the Laplacian of a function; :func:`fgnumba.laplacian` has the documentation."""
    function = of_one_argument("laplacian", f)
    return Derivative(
        "laplacian", function, laplacian_driver(function.primal, checked_chunk("laplacian", chunk))
    )
