"""Typed intermediate representation of a Numba function: what Numba knows of it before machine code is made.

Numba translates a function's bytecode to statements on variables in static single assignment form, and finds a type for
each variable. Tangents are written beside these statements, so that loops, branches, closures and calls need no care of
their own.
"""

from dataclasses import dataclass
from typing import Any

from numba.core import bytecode, compiler, ir, types
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import NumbaError
from numba.core.targetconfig import ConfigStack
from numba.core.typed_passes import NopythonRewrites, NopythonTypeInference, PreLowerStripPhis
from numba.core.untyped_passes import ExtractByteCode

from fgnumba.errors import DifferentiationError


@dataclass
class TypedFunction:
    """A function's statements and the types of its variables.

    Parameters
    ----------
    func_ir : numba.core.ir.FunctionIR
        Statements in blocks. Array expressions are single statements, and phi nodes are assignments.
    typemap : dict of str to numba.types.Type
        The type of each variable.
    calltypes : dict
        The signature of each call.
    return_type : numba.types.Type
        Type of the value.
    """

    func_ir: ir.FunctionIR
    typemap: dict[str, types.Type]
    calltypes: dict[Any, Any]
    return_type: types.Type


class _Frontend(CompilerBase):
    def define_pipelines(self) -> list[Any]:
        return []


_NOISE = (
    "Failed in",
    "- ",
    "During:",
    "File ",
    "[",
    "^",
    ">>>",
    "There is",
    "There are",
    "Overload ",
    "<source",
)


def first_line(error: BaseException) -> str:
    """Return the line of Numba's message that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith(_NOISE)), type(error).__name__)


def place_of(function: Any) -> str:
    """Return a Python function's name with the file and the line at which it begins."""
    code = function.__code__
    return f"{function.__qualname__} ({code.co_filename}:{code.co_firstlineno})"


def typed_function(dispatcher: Any, arguments: tuple[types.Type, ...]) -> TypedFunction:
    """Run Numba's front end on a function for the given types of its arguments.

    Parameters
    ----------
    dispatcher : numba dispatcher
        The function.
    arguments : tuple of numba.types.Type
        One type for each argument.

    Raises
    ------
    DifferentiationError
        Numba cannot compile the function for these types.
    """
    if dispatcher.locals:
        raise DifferentiationError(
            f"{place_of(dispatcher.py_func)}: it is compiled with locals=; types of local variables are not kept"
        )
    with global_compiler_lock:
        try:
            return _run(dispatcher, arguments)
        except NumbaError as error:
            raise not_compiled(dispatcher.py_func, arguments, error) from error


def not_compiled(
    function: Any, arguments: tuple[types.Type, ...], error: BaseException
) -> DifferentiationError:
    """Return the error of a function that Numba does not compile for the types of its arguments, in one line."""
    shown = ", ".join(str(argument) for argument in arguments)
    return DifferentiationError(
        f"{place_of(function)}: Numba cannot compile it for ({shown}): {first_line(error)}"
    )


def _run(dispatcher: Any, arguments: tuple[types.Type, ...]) -> TypedFunction:
    flags = compiler.Flags()
    target = dispatcher.targetdescr
    target.options.parse_as_flags(flags, dispatcher.targetoptions)
    front = _Frontend(target.typing_context, target.target_context, None, arguments, None, flags, {})
    state = front.state
    state.func_id = bytecode.FunctionIdentity.from_function(dispatcher.py_func)
    ExtractByteCode().run_pass(state)
    state.lifted, state.lifted_from = (), None
    # A tangent's statements are written by another pass than the one that reads bytecode.
    untyped = getattr(dispatcher._compiler.pipeline_class, "untyped_pipeline", None)
    builder = DefaultPassBuilder.define_untyped_pipeline if untyped is None else untyped
    with ConfigStack().enter(flags.copy()):
        passes = builder(state)
        passes.add_pass(NopythonTypeInference, "types")
        passes.add_pass(PreLowerStripPhis, "phi nodes to assignments")
        passes.add_pass(NopythonRewrites, "array expressions")
        passes._finalized = False
        passes.finalize()
        passes.run(state)
    return TypedFunction(state.func_ir, state.typemap, state.calltypes, state.return_type)
