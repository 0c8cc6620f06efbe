"""The disk cache of compiled kernels: one file for each kernel, complete or absent, and verified before use.

A file's name is a hash of everything that the machine code depends on: the kernel's name and signature; its code with
everything that is compiled into it (:mod:`fgnumba.kernels.machine.identity`); this package's modules; the versions of
Python, NumPy, Numba and LLVM; Numba's settings; the processor and its features. A kernel is not cached if one of these
is unknown.

Two processes that compile the same kernel at once write the same bytes to the same name, each through a temporary file
of its own. Whoever finishes first deletes the temporary files of the others, and of processes that were killed. A
folder that cannot be written to, or is full, is only read from. A damaged file counts as absent.
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
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import llvmlite
import numba
import numpy as np
import platformdirs
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from fgnumba.kernels.machine.registered import PACKAGES
from fgnumba.validation.paths import path_of

OVERRIDE = "FGNUMBA_CACHE_DIR"
"""Environment variable that names the folder of the compiled kernels."""
_DIGEST_BYTES = hashlib.sha256().digest_size

_SETTINGS = (
    *("BOUNDSCHECK", "DEBUG_ARRAY_OPT_RUNTIME", "DEBUGINFO_DEFAULT", "EXTEND_VARIABLE_LIFETIMES"),
    *("FULL_TRACEBACKS", "LLVM_REFPRUNE_FLAGS", "LLVM_REFPRUNE_PASS", "LOOP_VECTORIZE", "OPT"),
    *("SLP_VECTORIZE", "USING_SVML"),
)
"""The settings of ``numba.config`` that change machine code. The code generator knows the processor's features."""


def cache_folder() -> Path:
    """Return the folder of the compiled kernels: ``FGNUMBA_CACHE_DIR``, else a folder in the user's cache folder.

    If the user has no home, this is a path below ``/dev/null``, where nothing exists and nothing can be written.
    """
    override = os.environ.get(OVERRIDE)
    if override:
        return path_of(override, OVERRIDE)
    return (_user_folder() or Path(os.devnull)) / "kernels"


def _user_folder() -> Path | None:
    """Return fgnumba's folder in the user's cache folder, as platformdirs names it; None if the user has no home."""
    try:
        folder = platformdirs.user_cache_dir("fgnumba")
    except RuntimeError:
        return None
    # Older versions of platformdirs return "~", which would name a folder in the working folder.
    return None if folder.startswith("~") else Path(folder)


@cache
def sources_digest() -> str | None:
    """Return a hash of the modules of kernels and functions, and of what compiles them; None if they cannot be read.

    The modules are read through their loaders: as sources, as bytecode without sources, or as members of an archive.
    """
    digest, complete = hashlib.sha256(), 0
    for name, content in _all_modules():
        if content is None:
            return None
        digest.update(f"{name}:{len(content)}:".encode())
        digest.update(content)
        complete += name == __name__
    # If Python optimizes, its bytecode lacks the assert statements, so the flag is part of the hash.
    for setting in (sys.version, numba.__version__, llvmlite.__version__, np.__version__, sys.flags.optimize):
        digest.update(f"{setting}:".encode())
    return digest.hexdigest() if complete else None


def _all_modules() -> Iterator[tuple[str, bytes | None]]:
    for package in PACKAGES:
        if package in sys.modules:
            yield from _modules(package, sys.modules[package].__path__)
        else:
            spec = find_spec(package)
            yield from _modules(package, () if spec is None else spec.submodule_search_locations or ())


def _modules(package: str, folders: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield the name and the content of each of a package's modules; None if a loader does not give the content."""
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
    """Return the values of Numba's settings that change machine code."""
    return [str(getattr(numba.config, setting, None)) for setting in _SETTINGS]


class KernelCache:
    """The disk cache of one kernel, with the methods that Numba's dispatchers and callbacks call.

    Parameters
    ----------
    name : str
        Name of the kernel.
    identity : str or None
        Digest that distinguishes its code from that of every other kernel. None: there is no such digest, and the
        kernel is not kept on disk.
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
        """Return the compiled kernel, or None if the file is absent, unreadable or damaged."""
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

    def save_overload(self, sig: Any, data: CompileResult) -> bool:
        """Store the compiled kernel, if other processes can use it, and return whether it is on the disk.

        It is not if the folder cannot be written to.
        """
        path = self._path(sig, data.codegen)
        # Dynamic globals are addresses in this process, and lifted functions belong to this process's Python.
        if path is None or data.library.has_dynamic_globals or data.lifted:
            return False
        payload = dumps(data._reduce())
        return write_whole(path, hashlib.sha256(payload).digest() + payload)


def _file_name(name: str) -> str:
    """Return a kernel's name with only those characters that every file system allows."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", name)[:80]


def write_whole(path: Path, content: bytes) -> bool:
    """Write a file completely or not at all, and return which: its folder may not be writable, or be full."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    except OSError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        return False
    # Other temporary files for this name hold equivalent content, and nobody else deletes those of killed processes.
    for other in path.parent.glob(f"{path.name}?*"):
        with contextlib.suppress(OSError):
            other.unlink()
    return True
