"""Functions with tangents: ``fg.differentiable`` and the compiler behind it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from numba import njit, types
from numba.core import ir
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import build_definitions
from numba.extending import is_jitted

from fgnumba.errors import ConfigError
from fgnumba.functions.activity import analysed
from fgnumba.functions.carriers import vectors_in
from fgnumba.functions.transform import Transformation, checked_arguments
from fgnumba.functions.typed import typed_function

_OPTIONS = ("error_model", "fastmath", "boundscheck", "parallel", "nogil")
_TANGENTS: dict[Any, Any] = {}


@register_pass(mutates_CFG=True, analysis_only=False)
class _WriteTangent(FunctionPass):  # type: ignore[misc]
    """Takes the place of the pass that reads bytecode: the statements are written from another function's."""

    _name = "fgnumba_write_tangent"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        tangent = state.func_id.func.__fgnumba_tangent__
        state.func_ir = tangent.statements(tuple(state.args), state.func_id)
        # The statements name functions that were made just now, which the contexts do not know yet.
        state.typingctx.refresh()
        state.targetctx.refresh()
        return True


class _TangentCompiler(CompilerBase):  # type: ignore[misc]
    @staticmethod
    def untyped_pipeline(state: Any) -> Any:
        passes = DefaultPassBuilder.define_untyped_pipeline(state)
        passes.passes[0] = (_WriteTangent, "write a tangent's statements")
        return passes

    def define_pipelines(self) -> list[Any]:
        # Vectors exist in compiled code alone: Python cannot be given any.
        if any(True for _ in vectors_in(tuple(self.state.args))):
            self.state.flags.no_cpython_wrapper = True
            self.state.flags.no_cfunc_wrapper = True
        passes = self.untyped_pipeline(self.state)
        for part in (
            DefaultPassBuilder.define_typed_pipeline(self.state),
            DefaultPassBuilder.define_nopython_lowering_pipeline(self.state),
        ):
            passes.passes.extend(part.passes)
        passes._finalized = False
        passes.finalize()
        return [passes]


class _Tangent:
    """The tangent of one compiled function, for any types."""

    def __init__(self, primal: Any, nondiff: frozenset[str] = frozenset()) -> None:
        self.primal, self.nondiff = primal, nondiff
        self.names = names_of(primal)
        self.tangents = _tangent_names(self.names)
        options = {name: primal.targetoptions[name] for name in _OPTIONS if name in primal.targetoptions}
        self.parallel = bool(options.get("parallel"))
        self.dispatcher = njit(pipeline_class=_TangentCompiler, **options)(self._stub())

    def _stub(self) -> Callable[..., Any]:
        name = f"{self.primal.py_func.__name__}_tangent"
        parameters = ", ".join((*self.names, *self.tangents))
        space: dict[str, Any] = {"__name__": self.primal.py_func.__module__}
        exec(f"def {name}({parameters}):\n    pass\n", space)  # noqa: S102
        stub: Any = space[name]
        stub.__fgnumba_tangent__ = self
        return stub

    def transformation(self, kinds: tuple[types.Type, ...]) -> Transformation:
        """Return the transformed function for the types of arguments and tangents."""
        count = len(self.names)
        kinds = tuple(kind.type if isinstance(kind, types.Omitted) else kind for kind in kinds)
        given = tuple(kind != types.none for kind in kinds[count:])
        typed = typed_function(self.primal, kinds[:count])
        activity = analysed(typed, self.primal.py_func, given)
        checked_arguments(activity, self.nondiff)
        vectors = next(vectors_in(kinds[count:]), None)
        return Transformation(activity, self.tangents, vectors, tangent_of, self.parallel)

    def statements(self, kinds: tuple[types.Type, ...], func_id: Any) -> ir.FunctionIR:
        """Return the tangent's statements."""
        transformation = self.transformation(kinds)
        source = transformation.source
        result = source.derive(transformation.blocks())
        result.func_id, result.arg_count = func_id, 2 * len(self.names)
        result.arg_names = [*self.names, *self.tangents]
        result._definitions = build_definitions(result.blocks)
        return result


def _tangent_names(names: list[str]) -> list[str]:
    """Return a name for each argument's tangent that no argument has; those of a tangent may have them already."""
    prefix, level = "tangent_", 1
    while any(prefix + name in names for name in names):
        level += 1
        prefix = f"tangent{level}_"
    return [prefix + name for name in names]


def names_of(primal: Any) -> list[str]:
    """Return the names of a Numba function's parameters."""
    return list(inspect.signature(primal.py_func).parameters)


def tangent_of(primal: Any, nondiff: frozenset[str] = frozenset()) -> Any:
    """Return the Numba function ``tangent(*arguments, *tangents)`` of a Numba function; it is made once.

    Its value is the pair of the function's value and the value's tangent.
    """
    key = primal, nondiff
    if key not in _TANGENTS:
        _TANGENTS[key] = _Tangent(primal, nondiff)
    return _TANGENTS[key].dispatcher


class Differentiable:
    """A function with a tangent; :func:`differentiable` makes it."""

    def __init__(self, function: Any, nondiff: Any = ()) -> None:
        self.primal = function if is_jitted(function) else njit(function)
        self.nondiff = frozenset((nondiff,) if isinstance(nondiff, str) else nondiff)
        functools.update_wrapper(self, self.primal.py_func)

    @property
    def tangent(self) -> Any:
        """The Numba function ``tangent(*arguments, *tangents)``, whose value is (value, tangent)."""
        return tangent_of(self.primal, self.nondiff)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.primal(*arguments, **named)


def differentiable(function: Any = None, *, nondiff: Any = ()) -> Any:
    """Return a function of numbers, arrays and tuples that can be differentiated."""
    if function is None:
        return functools.partial(differentiable, nondiff=nondiff)
    if isinstance(function, Differentiable):
        return function
    if not is_jitted(function) and not inspect.isfunction(function):
        raise ConfigError(f"{function!r} is no function; a Python function or one under @njit is required")
    return Differentiable(function, nondiff)
