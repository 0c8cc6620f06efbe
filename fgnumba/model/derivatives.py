"""Derivatives along a direction, of whatever has one: which function computes them depends on the arguments."""

from typing import Any, overload

import numpy.typing as npt

from fgnumba.errors import ConfigError
from fgnumba.functions.calls import (
    DEFAULT_CHUNK,
    forward_gradient_of_function,
    jvp_of_function,
    laplacian_of_function,
)
from fgnumba.functions.compiled_calls import register_jvp
from fgnumba.layers.losses import Loss
from fgnumba.model import jvp as of_loss
from fgnumba.model.graph import Graph
from fgnumba.model.input_derivatives import input_jvp
from fgnumba.model.jvp import Tangents
from fgnumba.model.laplacian import ModelLaplacian
from fgnumba.validation import flag, whole_number

_OF_LOSS = ("loss", "x", "y")


@overload
def jvp(f: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]: ...
@overload
def jvp(
    f: Graph, loss: Loss, x: Any, y: npt.ArrayLike, tangents: Tangents, *, training: bool = False
) -> tuple[float, float]: ...
def jvp(f: Any, *arguments: Any, training: bool = False, **named: Any) -> Any:
    """Return a value and its derivative along a direction, from one forward pass.

    There are three forms. ``jvp(f, primals, tangents)``: a function of one's own, exact up to its own rounding, and
    ``jvp(model, primals, tangents)``: outputs of a model, with the direction in its *input*,

        y = f(x),   dy = ∂f/∂x · dx

    and ``jvp(model, loss, x, y, tangents, training=False)``: a model's loss, with the direction in its *parameters*,

        (f(θ), ∇f(θ) · v)

    Models are exact up to float32 rounding. No form takes finite differences.

    Parameters
    ----------
    f : callable or Graph
        The function: a Python function, one under ``@njit``, or one of :func:`differentiable`. Or the model.
    *arguments : object
        With three arguments, `primals` and `tangents`: tuples with an entry for each argument of the function, where
        None stands for the tangent of one that carries none. For a model, the examples ``(x,)``, (B, *input_shape) real
        numbers, and the directions ``(dx,)``, of the same shape, a direction for each example. With five arguments,
        `loss`, `x`, `y` and `tangents`: the loss, the examples, the targets in the shape and dtype that the loss takes,
        and the direction of the parameters: one of ``fgnumba.directions``, or arrays with the names and shapes of
        ``model.parameters()``, finite in float32.
    training : bool, optional
        Whether dropout drops units, with five arguments alone: its mask is drawn with the seed and the step of the
        direction (0 for arrays). By default False.
    **named : object
        The arguments by name.

    Returns
    -------
    value : ndarray or float
        The function's value. For a model, with three arguments the outputs y (B, *output_shape) float32, on the GPU if
        x and dx are there; with five the loss. It is infinite or NaN if the computation overflows.
    derivative : ndarray or float
        The derivative, of the same shape as the value.

    Raises
    ------
    DifferentiationError
        If Numba cannot compile the function, or something that it does has no derivative rule; the message names
        function, file and line.
    ShapeError
        If an array's shape does not fit, or a parameter's name is missing or unknown.
    DtypeError
        If an array does not hold the kind of numbers that is required.
    DatasetError
        If a target is out of its range.
    ConfigError
        If the number of arguments or of arrays is another, `tangents` is neither a direction nor a mapping, a tangent
        of a parameter is not finite in float32, or the output depends on no parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> fg.jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 3.0)
    >>> model = fg.Sequential([fg.Dense(3)], input_shape=(4,), device="cpu")
    >>> x, y = np.ones((2, 4), np.float32), np.array([0, 2])
    >>> outputs, derivatives = fg.jvp(model, (x,), (np.ones_like(x),))
    >>> derivatives.shape
    (2, 3)
    >>> value, derivative = fg.jvp(model, fg.SoftmaxCrossEntropy(), x, y, fg.directions.RankOne(seed=1))
    """
    if len(arguments) > 2 or any(name in named for name in _OF_LOSS):
        loss, x, y, tangents = _ordered(("loss", "x", "y", "tangents"), arguments, named)
        return of_loss.jvp(f, loss, x, y, tangents, training=training)
    primals, tangents = _ordered(("primals", "tangents"), arguments, named)
    if flag("training", training):
        raise ConfigError("jvp: training is for a model's loss; three arguments take no dropout")
    if not isinstance(f, Graph):
        return jvp_of_function(f, primals, tangents)
    return input_jvp(f, primals, tangents)


_FORMS = {
    "jvp": "three (f, primals, tangents) or five (model, loss, x, y, tangents) are required",
    "forward_gradient": "three (f, x, v) or five (model, loss, x, y, tangents) are required",
}


def _ordered(
    names: tuple[str, ...], arguments: tuple[Any, ...], named: dict[str, Any], call: str = "jvp"
) -> list[Any]:
    """Return the arguments in the order of `names`: those by position, then those by name."""
    forms = _FORMS[call]
    if len(arguments) > len(names):
        raise ConfigError(f"{call} has {1 + len(arguments)} arguments; {forms}")
    found = dict(zip(names, arguments, strict=False))
    for name, value in named.items():
        if name not in names:
            raise ConfigError(f"{call}: unknown argument {name!r}; {forms}")
        if name in found:
            raise ConfigError(f"{call}: {name} is given twice; {forms}")
        found[name] = value
    for name in names:
        if name not in found:
            raise ConfigError(f"{call}: {name} is missing; {forms}")
    return [found[name] for name in names]


def laplacian(f: Any, *, directions: Any = None, weights: Any = None, chunk: int = DEFAULT_CHUNK) -> Any:
    """Return the Laplacian of a function, or of a model in its input.

        Δf(x) = Σ_i ∂²f/∂x_i²

    One forward pass carries value, D first derivatives and their summed second derivative: 2 + D vectors, and not
    1 + 2 D as nested derivatives do.

    Parameters
    ----------
    f : callable or Graph
        A function of one argument, an array, number or tuple, whose value is a number; or a model that is a chain of
        dense layers, on the CPU.
    directions : array, optional
        For a model alone: directions v_i, (k, *input_shape) real numbers, along which second derivatives are taken in
        place of the coordinates.
    weights : array, optional
        For a model alone: weights w_i, (k,) real numbers, of the second derivatives in the sum. By default ones.
    chunk : int, optional
        For a function alone: number of lanes of a pass, 4, 8 or 16, one of which is the sum. By default 8.

    Returns
    -------
    callable
        For a function, ``laplacian(f)(x)`` is a number. For a model, a
        :class:`fgnumba.model.laplacian.ModelLaplacian`, whose value at points
        x (B, *input_shape) is (B, *output_shape) float32: one for each example.

    Raises
    ------
    ConfigError
        If `f` is neither, or a model that is no chain of dense layers, or a number is not finite in float32.
    DeviceError
        If the model is on a GPU.
    ShapeError, DtypeError
        If directions or weights have another shape, or do not hold real numbers.
    DifferentiationError
        At the call: if Numba cannot compile the function, or something that it does has no derivative rule.

    Notes
    -----
    Source: R. Li et al., arXiv 2307.08214; F. Dangel et al., arXiv 2505.13644.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> fg.laplacian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    4.0
    >>> model = fg.Sequential([fg.Dense(8, "tanh"), fg.Dense(1)], input_shape=(2,), device="cpu")
    >>> fg.laplacian(model)(np.zeros((3, 2))).shape
    (3, 1)
    """
    if isinstance(f, Graph):
        return ModelLaplacian(f, directions, weights)
    if directions is not None or weights is not None:
        raise ConfigError("laplacian: directions and weights are for a model; a function takes neither")
    return laplacian_of_function(f, chunk=whole_number("chunk", chunk))


def forward_gradient(f: Any, *arguments: Any, training: bool = False, **named: Any) -> Any:
    """Return a value and a forward gradient, from one forward pass.

        g = (∇f · v) v

    For a direction drawn with E[v vᵀ] = I, the forward gradient is an unbiased estimate of the gradient: E[g] = ∇f.

    There are two forms. ``forward_gradient(f, x, v)``: a function of one argument. ``forward_gradient(model, loss, x,
    y, tangents, training=False)``: a model's loss, with the direction in its parameters.

    Parameters
    ----------
    f : callable or Graph
        A function whose value is a number; or the model, whose parameters are θ.
    *arguments : object
        With three arguments, x, a number, array or tuple of floats, and the direction v, in the structure of x. With
        five, as for :func:`jvp`: `loss`, `x`, `y` and `tangents`.
    training : bool, optional
        Whether dropout drops units, with five arguments alone. By default False.
    **named : object
        The arguments by name.

    Returns
    -------
    value : float
        f(x), or the loss.
    gradient : float, ndarray, tuple or dict of str to ndarray
        The forward gradient: in the structure of v for a function; float32, with the names and shapes of
        ``model.parameters()``, for a model.

    Raises
    ------
    ShapeError, DtypeError, DatasetError, ConfigError, DifferentiationError
        For the same reasons as :func:`jvp`; ShapeError if a function's value is no number.

    Notes
    -----
    Source: arXiv 2202.08587, definition 1.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> fg.forward_gradient(lambda x: np.sum(x**2), np.array([1.0, 2.0]), np.array([1.0, -1.0]))
    (5.0, array([-2.,  2.]))
    """
    if len(arguments) > 2 or any(name in named for name in ("loss", "y", "tangents")):
        loss, x, y, tangents = _ordered(("loss", "x", "y", "tangents"), arguments, named, "forward_gradient")
        return of_loss.forward_gradient(f, loss, x, y, tangents, training=training)
    x, v = _ordered(("x", "v"), arguments, named, "forward_gradient")
    if flag("training", training):
        raise ConfigError("forward_gradient: training is for a model's loss; three arguments take no dropout")
    if isinstance(f, Graph):
        raise ConfigError("forward_gradient of a model takes five arguments: model, loss, x, y, tangents")
    return forward_gradient_of_function(f, x, v)


register_jvp(jvp, forward_gradient, laplacian)
