"""The one module that imports the CUDA target: it declares the primitives, and compiles kernels.

The target is numba-cuda and not numba-cuda-mlir. Both compile such kernels, but primitives are written as LLVM
instructions (``lowering``), through llvmlite, and numba-cuda-mlir's builders are MLIR's. Kernels do not depend on the
choice: with another target, this module and ``lowering`` would change.

Every argument of a kernel is a number or a bundle of numbers, so that each kernel has one signature.
"""

import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numba_cuda
from numba import cuda
from numba.cuda import cgutils as cgutils
from numba.cuda import compiler as numba_compiler
from numba.cuda import dispatcher as numba_dispatcher
from numba.cuda import types as types
from numba.cuda.core import config
from numba.cuda.cudadecl import registry as declarations
from numba.cuda.cudaimpl import registry as implementations
from numba.cuda.extending import overload, register_jitable
from numba.cuda.typing.templates import AbstractTemplate, ConcreteTemplate
from numba.cuda.typing.templates import signature as signature

from fgnumba.kernels.cuda.kernel import Kind, fields
from fgnumba.kernels.machine import scalar
from fgnumba.kernels.machine.cache import cache_folder, sources_digest
from fgnumba.kernels.machine.compile import announce, announce_end

_TYPES = {"int32": types.int32, "int64": types.int64, "float32": types.float32, "float64": types.float64}

Codegen = Callable[[Any, Sequence[Any]], Any]
"""Emits a primitive: takes the builder and the arguments."""


def _lowered(function: Callable[..., Any], typed: Any, codegen: Codegen) -> None:
    def lower(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        found = codegen(builder, args)
        return context.get_dummy_value() if sig.return_type == types.void else found

    implementations.lower(function, *typed)(lower)


def primitive(function: Callable[..., Any], result: Any, *arguments: Any) -> Callable[[Codegen], Codegen]:
    """Declare a primitive whose types are fixed.

    Parameters
    ----------
    function : callable
        The Python twin of ``primitives``.
    result : Numba type
        Type of the result.
    *arguments : Numba type
        Types of the arguments.

    Returns
    -------
    callable
        Decorator of the function that emits the primitive's instructions.
    """

    class Typed(ConcreteTemplate):
        key = function
        cases = (signature(result, *arguments),)

    declarations.register_global(function)(Typed)

    def wrap(codegen: Codegen) -> Codegen:
        _lowered(function, arguments, codegen)
        return codegen

    return wrap


def generic(function: Callable[..., Any], typed: Callable[..., Any]) -> Callable[[Any], Any]:
    """Declare a primitive whose types depend on those of its arguments.

    Parameters
    ----------
    function : callable
        The Python twin of ``primitives``.
    typed : callable
        Takes the arguments' types and returns the signature; None where there is none for them.

    Returns
    -------
    callable
        Decorator of the function that emits the primitive's instructions.
    """

    class Typed(AbstractTemplate):
        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            return typed(*args)

    declarations.register_global(function)(Typed)

    def wrap(codegen: Any) -> Any:
        implementations.lower(function, types.VarArg(types.Any))(codegen)
        return codegen

    return wrap


_known: set[Callable[..., Any]] = set()


def _itself(function: Callable[..., Any], *types_of_arguments: Any) -> Callable[..., Any]:
    """Return the function that is compiled in place of its cache, which only the simulator calls."""
    return function


def _learn() -> None:
    """Make the primitives callable from kernels, and the rules and device functions that are defined by now."""
    importlib.import_module("fgnumba.kernels.cuda.lowering")
    for rule in scalar.FUNCTIONS:
        if rule not in _known:
            _known.add(rule)
            register_jitable(rule)
    for remembered, function in scalar.REMEMBERED.items():
        if function not in _known:
            _known.add(function)
            overload(remembered, strict=False)(partial(_itself, function))


# A small grid is no mistake here: layers can be small.
cuda.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0


def _type(kind: Kind) -> Any:
    if isinstance(kind, str):
        return _TYPES[kind]
    # What a value of the bundle is to Numba: its fields become parameters of their own in PTX.
    return types.BaseTuple.from_types([_type(one) for one in fields(kind).values()], kind)


def _signature(kinds: Sequence[Kind]) -> Any:
    return types.void(*map(_type, kinds))


_ours = threading.local()
"""Whether this thread is compiling one of our kernels."""


def _flush_ours(compile_cuda: Callable[..., Any]) -> Callable[..., Any]:
    """Return `compile_cuda` with another option for our kernels: subnormal numbers count as zero, as on the CPU.

    Numba itself sets that option only together with divisions and roots that are not rounded correctly.
    """

    def compile_ours(*arguments: Any, **more: Any) -> Any:
        if getattr(_ours, "compiling", False):
            more["nvvm_options"] = {**more["nvvm_options"], "ftz": True}
        return compile_cuda(*arguments, **more)

    return compile_ours


for _module in (numba_compiler, numba_dispatcher):
    _module.compile_cuda = _flush_ours(_module.compile_cuda)

_compiling = threading.RLock()


@contextmanager
def _compile_ours(module: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute of a module of Numba while this thread compiles; threads compile one at a time."""
    _learn()
    with _compiling, patch.object(module, name, value):
        _ours.compiling = True
        try:
            yield
        finally:
            _ours.compiling = False


def ptx(
    function: Callable[..., None], kinds: Sequence[Kind], threads: int, resident: int, cc: tuple[int, int]
) -> str:
    """Return a kernel as PTX. Neither a driver nor a GPU is needed.

    Parameters
    ----------
    function : callable
        The kernel's function.
    kinds : sequence
        Types of its parameters, see ``kernel.Kind``.
    threads : int
        Threads of a block.
    resident : int
        Blocks that a multiprocessor must be able to hold at once, which bounds the registers.
    cc : tuple of int
        Compute capability.

    Returns
    -------
    str
        The PTX.
    """
    # Functions that a kernel calls are compiled for the current device, which need not be there.
    device = SimpleNamespace(compute_capability=cc)
    with _compile_ours(numba_dispatcher, "get_current_device", lambda: device):
        text, _ = cuda.compile_ptx(function, _signature(kinds), cc=cc, launch_bounds=(threads, resident))
    return str(text)


def dispatcher(function: Callable[..., None], kinds: Sequence[Kind], threads: int, resident: int) -> Any:
    """Return a kernel compiled for the GPU of this machine, to be launched as ``kernel[blocks, threads, stream]``.

    Machine code is kept on disk, in a folder whose name changes with the sources: Numba itself notices only changes of
    a kernel's own file.

    Parameters
    ----------
    function : callable
        The kernel's function.
    kinds : sequence
        Types of its parameters, see ``kernel.Kind``.
    threads : int
        Threads of a block.
    resident : int
        Blocks that a multiprocessor must be able to hold at once, which bounds the registers.

    Returns
    -------
    object
        Numba's dispatcher, compiled.
    """
    digest = sources_digest()
    # Numba keeps what it compiles beside the stamp of a source file: there is none in an archive.
    kept = digest is not None and Path(function.__code__.co_filename).is_file()
    folder = cache_folder() / f"cuda-{numba_cuda.__version__}-{(digest or '')[:32]}"
    jit = cuda.jit(_signature(kinds), launch_bounds=(threads, resident), cache=kept)
    new = not kept or _is_new(folder)
    if new:
        announce(function.__qualname__)
    # A kernel that has a signature is compiled at once.
    with _compile_ours(config, "CACHE_DIR", str(folder)):
        compiled = jit(function)
    if new:
        announce_end(function.__qualname__, kept)
    return compiled


@cache
def _is_new(folder: Path) -> bool:
    """Whether the folder did not exist when the first kernel was asked for: then every kernel is compiled anew."""
    return not folder.exists()


def current_device() -> Any:
    """Return this machine's GPU, after its context was made current."""
    return cuda.current_context().device


def stream(handle: int) -> Any:
    """Return a stream of the driver, given by its handle, as launches take it."""
    return cuda.external_stream(handle)
