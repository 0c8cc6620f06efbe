"""Functions with tangents: ``fg.differentiable`` and the compiler behind it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from numba import njit, typeof, types
from numba.core import ir
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.cpu import ParallelOptions
from numba.core.ir_utils import build_definitions
from numba.extending import is_jitted, typeof_impl

from fgnumba.errors import ConfigError, DifferentiationError, shown
from fgnumba.functions.activity import Activity, analysed
from fgnumba.functions.carriers import tangent_type, vectors_in
from fgnumba.functions.disk import is_kept, kept
from fgnumba.functions.generated import generated
from fgnumba.functions.source_text import written
from fgnumba.functions.transform import Transformation
from fgnumba.functions.typed import first_line, place_of, typed_function
from fgnumba.kernels.machine.identity import DEPENDS_ON, note_written
from fgnumba.kernels.machine.registered import is_known, module_of

_OPTIONS = ("error_model", "fastmath", "boundscheck", "parallel", "nogil")
_TANGENTS: dict[Any, "_Tangent"] = {}
TWINS: dict[Any, Callable[[], Any]] = {}
"""For a function whose passes have several tangents, what makes the one with single tangents, to be differentiated."""


@register_pass(mutates_CFG=True, analysis_only=False)
class _WriteTangent(FunctionPass):
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


class _TangentCompiler(CompilerBase):
    @staticmethod
    def untyped_pipeline(state: Any) -> Any:
        passes = DefaultPassBuilder.define_untyped_pipeline(state)
        passes.passes[0] = (_WriteTangent, "write a tangent's statements")
        return passes

    def compile_extra(self, func: Any) -> Any:
        """Compile the tangent; Numba's analysis of parallel loops raises an error of Python's own."""
        try:
            return super().compile_extra(func)
        except ValueError as error:
            raise DifferentiationError(
                f"{place_of(func.__fgnumba_tangent__.primal.py_func)}: Numba cannot run the tangent in parallel; "
                f"over prange, only sums have a derivative ({first_line(error)})"
            ) from error

    def define_pipelines(self) -> list[Any]:
        # Vectors exist in compiled code alone: Python cannot be given any.
        if any(True for _ in vectors_in(tuple(self.state.args))):
            self.state.flags.no_cpython_wrapper = True
            self.state.flags.no_cfunc_wrapper = True
            # Numba knows no sums of vectors over threads. A gradient's passes run on several threads instead.
            self.state.flags.auto_parallel = ParallelOptions(False)
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
        if is_kept(primal) or not is_known(module_of(primal.py_func)):
            # What array expressions and rules are made of is kept in the functions that use it.
            kept(self.dispatcher)
        note_written(primal, self.dispatcher)

    def _stub(self) -> Callable[..., Any]:
        own = self.primal.py_func.__name__
        name = f"{own if own.isidentifier() else 'function'}_tangent"
        parameters = ", ".join((*self.names, *self.tangents))
        stub = generated(name, [f"def {name}({parameters}):", "    pass"])
        stub.__fgnumba_tangent__ = self
        setattr(
            stub,
            DEPENDS_ON,
            (
                self.primal.py_func,
                self.primal.targetoptions,
                self.primal._compiler.pipeline_class,
                self.nondiff,
            ),
        )
        return stub

    def transformation(self, kinds: tuple[types.Type, ...]) -> Transformation:
        """Return the transformed function for the types of arguments and tangents."""
        count = len(self.names)
        kinds = tuple(kind.type if isinstance(kind, types.Omitted) else kind for kind in kinds)
        given = tuple(kind != types.none for kind in kinds[count:])
        typed = typed_function(self.primal, kinds[:count])
        activity = analysed(typed, self.primal.py_func, given)
        _check_written(activity, self.nondiff)
        vectors = next(vectors_in(kinds[count:]), None)
        parallel = self.parallel and vectors is None
        return Transformation(activity, self.tangents, vectors, tangent_of, parallel)

    def statements(self, kinds: tuple[types.Type, ...], func_id: Any) -> ir.FunctionIR:
        """Return the tangent's statements."""
        transformation = self.transformation(kinds)
        source = transformation.source
        result = source.derive(transformation.blocks())
        result.func_id, result.arg_count = func_id, 2 * len(self.names)
        result.arg_names = [*self.names, *self.tangents]
        result._definitions = build_definitions(result.blocks)
        return result


def _check_written(activity: Activity, nondiff: frozenset[str]) -> None:
    """Refuse an argument without a tangent that is written with values that carry one.

    Raises
    ------
    DifferentiationError
        The argument is not in `nondiff`.
    """
    for index, name in enumerate(activity.typed.func_ir.arg_names):
        if activity.active_argument(index) and not activity.given[index] and name not in nondiff:
            raise DifferentiationError(
                f"{activity.function.__qualname__}: argument {name!r} is written with values that carry a tangent; "
                f"give it a tangent (zeros), or name it in nondiff="
            )


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
    return _tangent_of(primal, nondiff).dispatcher


def with_single_tangents(primal: Any) -> Any:
    """Return a function, or its twin: passes of vectors cannot be differentiated, those of single tangents can."""
    return TWINS[primal]() if primal in TWINS else primal


def _tangent_of(primal: Any, nondiff: frozenset[str]) -> _Tangent:
    primal = with_single_tangents(primal)
    key = primal, nondiff
    if key not in _TANGENTS:
        _TANGENTS[key] = _Tangent(primal, nondiff)
    return _TANGENTS[key]


@functools.lru_cache(maxsize=1024)
def _compiled(function: Any) -> Any:
    """Return a Python function under ``@njit``; the same for the same function, so that it is compiled once."""
    return njit(function)


class Differentiable:
    """A function with a tangent, which Python and compiled code call as the function itself.

    :func:`differentiable` makes it.

    Parameters
    ----------
    function : callable
        A Python function, or one under ``@njit``.
    nondiff : str or sequence of str
        Names of arguments that carry no tangent.

    Attributes
    ----------
    primal : numba dispatcher
        The function under ``@njit``.
    nondiff : frozenset of str
        Names of arguments that carry no tangent.
    """

    __name__: str

    def __init__(self, function: Any, nondiff: Any = ()) -> None:
        self.primal = function if is_jitted(function) else _compiled(function)
        self.nondiff = frozenset((nondiff,) if isinstance(nondiff, str) else nondiff)
        functools.update_wrapper(self, self.primal.py_func)
        setattr(self, DEPENDS_ON, (self.primal, tuple(sorted(self.nondiff))))
        unknown = sorted(self.nondiff.difference(names_of(self.primal)))
        if unknown:
            raise ConfigError(f"nondiff: {place_of(self.primal.py_func)} has no argument {unknown[0]!r}")

    @property
    def tangent(self) -> Any:
        """The Numba function ``tangent(*arguments, *tangents)``, whose value is (value, tangent).

        It takes all arguments, and then a tangent for each: None for one that carries none.
        """
        return tangent_of(self.primal, self.nondiff)

    def tangent_source(self, *arguments: Any) -> str:
        """Return the statements of value and tangent as text, for arguments like those given.

        Parameters
        ----------
        *arguments : object
            Values of the arguments, of which only the types matter.

        Returns
        -------
        str
            Below each line of the function, the statements that it became; x′ is the tangent of x.

        Raises
        ------
        DifferentiationError
            If Numba cannot compile the function, or something that it does has no derivative rule.
        """
        return source_text(self, arguments)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.primal(*arguments, **named)

    def __reduce__(self) -> Any:
        return differentiable_again, (self.primal, tuple(sorted(self.nondiff)))

    def __repr__(self) -> str:
        return f"<differentiable function {self.__name__}>"


@typeof_impl.register(Differentiable)
def _type_in_compiled_code(value: Differentiable, context: Any) -> types.Dispatcher:
    return types.Dispatcher(value.primal)


def differentiable(function: Any = None, *, nondiff: Any = ()) -> Any:
    """Return a function that Numba compiles as one that can be differentiated by forward mode.

    Beside each statement stands the statement of its tangent: ``y = a * b`` has dy = da b + a db. It may take numbers,
    arrays, tuples and named tuples, and use loops, branches, slices, views, writes into arrays, closures, and other
    compiled functions. What has no derivative rule is refused when it is compiled, by name, file and line; no tangent
    is dropped.

    Parameters
    ----------
    function : callable
        A Python function, or one under ``@njit``, whose options are kept. None: return a decorator.
    nondiff : str or sequence of str, optional
        Names of arguments that carry no tangent: constants, and arrays that the function uses as workspace. Integers,
        truth values and strings carry none anyway.

    Returns
    -------
    Differentiable
        The function, to be called as before, and to be given to ``fg.jvp``, ``fg.gradient`` and the others. They take
        plain functions, too.

    Raises
    ------
    ConfigError
        If `function` is no Python function, or has no argument of a name in `nondiff`.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> @fg.differentiable
    ... def energy(theta):
    ...     total = 0.0
    ...     for i in range(len(theta)):
    ...         total += theta[i] ** 2
    ...     return total
    >>> fg.jvp(energy, (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))
    (5.0, 2.0)
    """
    if function is None:
        return functools.partial(differentiable, nondiff=nondiff)
    if isinstance(function, Differentiable):
        return function
    if not is_jitted(function) and not inspect.isfunction(function):
        raise ConfigError(
            f"{shown(function)} is no function; a Python function or one under @njit is required"
        )
    return Differentiable(function, nondiff)


def differentiable_again(primal: Any, nondiff: tuple[str, ...]) -> Differentiable:
    """Return a differentiable function from what a pickle keeps of it."""
    return Differentiable(primal, nondiff)


def source_text(function: Differentiable, arguments: tuple[Any, ...]) -> str:
    """Return the text of :meth:`Differentiable.tangent_source`."""
    kinds = [types.unliteral(typeof(argument)) for argument in arguments]
    names = names_of(function.primal)
    given = [
        types.none if name in function.nondiff else tangent_type(kind, None)
        for name, kind in zip(names, kinds, strict=True)
    ]
    # Analyses are kept in tables that compilation fills, too.
    with global_compiler_lock:
        transformation = _tangent_of(function.primal, function.nondiff).transformation((*kinds, *given))
        return written(transformation, transformation.activity.function)
