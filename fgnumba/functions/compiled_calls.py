"""The calls that differentiate, inside functions under ``@njit``."""

from typing import Any

from numba.core import types
from numba.core.imputils import lower_builtin
from numba.core.registry import cpu_target
from numba.extending import overload, type_callable

from fgnumba.functions.calls import DEFAULT_CHUNK, derivative, gradient, hessian, hvp, jacobian, taylor
from fgnumba.functions.differentiable import tangent_of
from fgnumba.functions.drivers import (
    derivative_driver,
    gradient_driver,
    hessian_driver,
    hvp_driver,
    laplacian_driver,
    shaped_jacobian_driver,
    taylor_driver,
)


def register_function_maker(call: Any, make: Any) -> None:
    """Let compiled code call `call` on a function: the value is the function that `make` gives.

    Parameters
    ----------
    call : callable
        The public function, as ``fg.gradient``.
    make : callable
        ``make(primal)``: a Numba function.
    """

    @type_callable(call)
    def typed(context: Any) -> Any:
        def typer(f: Any) -> Any:
            return types.Dispatcher(make(f.dispatcher)) if isinstance(f, types.Dispatcher) else None

        return typer

    @lower_builtin(call, types.Dispatcher)
    def lowered(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return context.get_dummy_value()


def register_jvp(jvp: Any, forward_gradient: Any, laplacian: Any) -> None:
    """Let compiled code call the public functions that models have, too."""

    @overload(jvp, strict=False)
    def compiled_jvp(f: Any, primals: Any, tangents: Any) -> Any:
        if not isinstance(f, types.Dispatcher):
            return None
        tangent = tangent_of(f.dispatcher)
        return lambda f, primals, tangents: tangent(*(primals + tangents))

    @overload(forward_gradient, strict=False)
    def compiled_forward_gradient(f: Any, x: Any, v: Any) -> Any:
        if not isinstance(f, types.Dispatcher):
            return None
        tangent = tangent_of(f.dispatcher)

        def implementation(f, x, v):
            value, derivative = tangent(x, v)
            return value, derivative * v

        return implementation

    register_function_maker(laplacian, lambda primal: laplacian_driver(primal, DEFAULT_CHUNK))
    _make_known()


def _make_known() -> None:
    """Tell Numba of what was registered: this module may be imported while a function is compiled that names a call."""
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


@overload(hvp, strict=False)
def _hvp(f: Any, x: Any, v: Any) -> Any:
    if not isinstance(f, types.Dispatcher):
        return None
    driver = hvp_driver(f.dispatcher, DEFAULT_CHUNK)
    return lambda f, x, v: driver(x, v)


@overload(taylor, strict=False)
def _taylor(f: Any, x: Any, v: Any, order: Any) -> Any:
    if not isinstance(f, types.Dispatcher) or not isinstance(order, types.Literal):
        return None
    driver = taylor_driver(f.dispatcher, order.literal_value)
    return lambda f, x, v, order: driver(x, v)


register_function_maker(derivative, derivative_driver)
register_function_maker(gradient, lambda primal: gradient_driver(primal, 0, DEFAULT_CHUNK))
register_function_maker(hessian, lambda primal: hessian_driver(primal, DEFAULT_CHUNK))
register_function_maker(jacobian, lambda primal: shaped_jacobian_driver(primal, DEFAULT_CHUNK))
_make_known()
