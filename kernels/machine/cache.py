"""Compiled kernels on disk: one file a kernel, whole or absent, checked before it is used.

A file's name is a hash of everything that the machine code depends on: the kernel's name and signature, its code with
all that is compiled into it (:mod:`fgnumba.kernels.machine.identity`), this package's modules, the versions of Python,
NumPy, Numba and LLVM, Numba's settings, the processor and its features. A kernel of which one of these is unknown is
not kept. Two processes that race write the same bytes to the same name, each through a temporary file, and the first
takes those of the others and of processes that were killed away; a folder that cannot be written, or is full, is
read; a damaged file counts as absent.
"""

import contextlib
import hashlib
import os
import pickle
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import llvmlite
import numba
import numpy as np
import platformdirs
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from fgnumba.validation.paths import path_of

OVERRIDE = "FGNUMBA_CACHE_DIR"
_DIGEST_BYTES = hashlib.sha256().digest_size

_SETTINGS = (
    *("BOUNDSCHECK", "DEBUG_ARRAY_OPT_RUNTIME", "DEBUGINFO_DEFAULT", "EXTEND_VARIABLE_LIFETIMES"),
    *("FULL_TRACEBACKS", "LLVM_REFPRUNE_FLAGS", "LLVM_REFPRUNE_PASS", "LOOP_VECTORIZE", "OPT"),
    *("SLP_VECTORIZE", "USING_SVML"),
)
"""Of ``numba.config``, what changes machine code; the processor's features are known to the code generator."""


def cache_folder() -> Path:
    """Folder of the compiled kernels: ``FGNUMBA_CACHE_DIR``, else below the user's cache folder.

    Where the user has no home, a path below ``/dev/null``, where nothing is found and nothing can be written.
    """
    override = os.environ.get(OVERRIDE)
    if override:
        return path_of(override, OVERRIDE)
    return (_user_folder() or Path(os.devnull)) / "kernels"


def _user_folder() -> Path | None:
    """Return the user's cache folder of fgnumba, as platformdirs has it; None where the user has no home."""
    try:
        folder = platformdirs.user_cache_dir("fgnumba")
    except RuntimeError:
        return None
    # Older versions leave "~", which would be a folder's name in the working folder.
    return None if folder.startswith("~") else Path(folder)


@cache
def sources_digest() -> str | None:
    """Return a hash of this package's modules and of what compiles them; None where the modules cannot be read.

    They are read as their loaders do: sources, bytecode where there are no sources, or members of an archive.
    """
    package = sys.modules["fgnumba.kernels"]
    digest, found = hashlib.sha256(), 0
    for name, content in _modules(package.__name__, package.__path__):
        if content is None:
            return None
        digest.update(f"{name}:{len(content)}:".encode())
        digest.update(content)
        found += name == __name__
    # Statements that are left out where Python optimizes are not in its bytecode either.
    for setting in (sys.version, numba.__version__, llvmlite.__version__, np.__version__, sys.flags.optimize):
        digest.update(f"{setting}:".encode())
    return digest.hexdigest() if found else None


def _modules(package: str, folders: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield the names and the contents of a package's modules, None where a loader does not give it."""
    for module in sorted(iter_modules(folders), key=lambda module: module.name):
        name = f"{package}.{module.name}"
        try:
            spec: Any = module.module_finder.find_spec(name, None)
            content = spec.loader.get_data(spec.origin)
        except (OSError, AttributeError, TypeError, ImportError):
            content = None
        yield name, content
        if module.ispkg and content is not None:
            yield from _modules(name, spec.submodule_search_locations or ())


def compiler_settings() -> list[str]:
    """Return the settings of Numba that change machine code."""
    return [str(getattr(numba.config, setting, None)) for setting in _SETTINGS]


class KernelCache:
    """The disk cache of one kernel, in the form that Numba's dispatchers and callbacks ask for.

    Parameters
    ----------
    name : of the kernel.
    identity : tells its code from that of every other kernel; None where that cannot be told: it is not kept on disk.
    """

    def __init__(self, name: str, identity: str | None) -> None:
        self._name, self._identity = name, identity
        self.cache_path = str(cache_folder())

    def _path(self, sig: Any, codegen: Any) -> Path | None:
        sources = sources_digest()
        if self._identity is None or sources is None:
            return None
        key = repr(
            (self._name, str(sig), codegen.magic_tuple(), compiler_settings(), self._identity, sources)
        )
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        return Path(self.cache_path) / f"{_file_name(self._name)}-{digest}.bin"

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """Return the compiled kernel, or None where the file is absent, unreadable or damaged."""
        target_context.refresh()
        path = self._path(sig, target_context.codegen())
        try:
            content = b"" if path is None else path.read_bytes()
        except OSError:
            return None
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            return None
        return CompileResult._rebuild(target_context, *pickle.loads(payload))

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        """Store the compiled kernel, if others can use it; a folder that cannot be written is left as it is."""
        path = self._path(sig, data.codegen)
        # Addresses of this process are in the one, functions of this process's Python in the other.
        if path is not None and not (data.library.has_dynamic_globals or data.lifted):
            payload = dumps(data._reduce())
            write_whole(path, hashlib.sha256(payload).digest() + payload)


def _file_name(name: str) -> str:
    """Return the part of a kernel's name that any file may have in its own."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", name)[:80]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; a folder that cannot be written, or is full, is left as it is."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    except OSError:
        return
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        return
    # Others that are being written hold what is as good; where a process was killed, nobody else takes them away.
    for other in path.parent.glob(f"{path.name}?*"):
        with contextlib.suppress(OSError):
            other.unlink()
