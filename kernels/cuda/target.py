"""The one module that imports the CUDA target: how primitives are declared to it, and how kernels are compiled.

numba-cuda and not numba-cuda-mlir: both compile such kernels, but primitives are written as LLVM instructions
(``lowering``), through llvmlite, which numba-cuda-mlir has no place for (its builders are MLIR's). Kernels do not see
which it is: were it to change, these two modules would.

Every argument of a kernel is a number, so that each kernel has one signature.
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
from fgnumba.kernels.machine.compile import announce

_TYPES = {"int32": types.int32, "int64": types.int64, "float32": types.float32, "float64": types.float64}

Codegen = Callable[[Any, Sequence[Any]], Any]
"""Emits a primitive: takes the builder and the arguments."""


def _lowered(function: Callable[..., Any], typed: Any, codegen: Codegen) -> None:
    def lower(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        found = codegen(builder, args)
        return context.get_dummy_value() if sig.return_type == types.void else found

    implementations.lower(function, *typed)(lower)


def primitive(function: Callable[..., Any], result: Any, *arguments: Any) -> Callable[[Codegen], Codegen]:
    """Say what a primitive of fixed types is."""

    class Typed(ConcreteTemplate):
        key = function
        cases = (signature(result, *arguments),)

    declarations.register_global(function)(Typed)

    def wrap(codegen: Codegen) -> Codegen:
        _lowered(function, arguments, codegen)
        return codegen

    return wrap


def generic(function: Callable[..., Any], typed: Callable[..., Any]) -> Callable[[Any], Any]:
    """Say what a primitive is whose types depend on its arguments': `typed` returns the signature."""

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
    """Return what is compiled where a function is called through its cache."""
    return function


def _learn() -> None:
    """Make the primitives, and the rules that have been defined so far, callable from kernels."""
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
"""Whether this thread compiles a kernel of ours now."""


def _flush_ours(compile_cuda: Callable[..., Any]) -> Callable[..., Any]:
    """Return `compile_cuda`, with NVVM's option that subnormal numbers count as zero for our kernels, as on the CPU.

    Numba sets that option only together with divisions and roots that are not rounded correctly.
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
    """Let a module of Numba's have another attribute while this thread compiles, one thread at a time."""
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
    """Return a kernel as PTX for a compute capability; neither driver nor GPU is needed.

    Parameters
    ----------
    kinds : types of the parameters, by their names.
    threads, resident : of a block, and blocks that a processor is to hold at once, which bounds the registers.
    """
    # Functions that a kernel calls are compiled for the current device, which need not be there.
    device = SimpleNamespace(compute_capability=cc)
    with _compile_ours(numba_dispatcher, "get_current_device", lambda: device):
        text, _ = cuda.compile_ptx(function, _signature(kinds), cc=cc, launch_bounds=(threads, resident))
    return str(text)


def dispatcher(function: Callable[..., None], kinds: Sequence[Kind], threads: int, resident: int) -> Any:
    """Return a kernel compiled for the device that there is, to be launched as ``kernel[blocks, threads, stream]``.

    Machine code is kept on disk, in a folder that changes with the sources: Numba looks at a kernel's own file alone.
    """
    digest = sources_digest()
    # Numba keeps what it compiles beside the stamp of a source file: there is none in an archive.
    kept = digest is not None and Path(function.__code__.co_filename).is_file()
    folder = cache_folder() / f"cuda-{numba_cuda.__version__}-{(digest or '')[:32]}"
    jit = cuda.jit(_signature(kinds), launch_bounds=(threads, resident), cache=kept)
    if not kept or _is_new(folder):
        announce(function.__qualname__)
    # A kernel that has a signature is compiled at once.
    with _compile_ours(config, "CACHE_DIR", str(folder)):
        return jit(function)


@cache
def _is_new(folder: Path) -> bool:
    """Whether there was no such folder when the first kernel was asked for: then all of them are compiled."""
    return not folder.exists()


def current_device() -> Any:
    """Return the GPU that there is, its context made current."""
    return cuda.current_context().device


def stream(handle: int) -> Any:
    """Return a stream of the driver's as launches take it."""
    return cuda.external_stream(handle)
