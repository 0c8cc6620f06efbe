"""Compiled kernels on disk: one file a kernel, whole or absent, checked before it is used.

A file's name is a hash of everything that the machine code depends on: the kernel's name and signature, the
sources of this package and of the module that the kernel stands in, Numba's and LLVM's versions, Numba's settings,
the processor and its features. Two processes that race write the same bytes to the same name, each through a
temporary file, and the first takes those of the others and of processes that were killed away; a folder that cannot be
written, or is full, is read; a damaged file counts as absent.
"""

import contextlib
import hashlib
import os
import pickle
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import platformdirs
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

OVERRIDE = "FGNUMBA_CACHE_DIR"
_DIGEST_BYTES = hashlib.sha256().digest_size

_SETTINGS = (
    *("BOUNDSCHECK", "DEBUG_ARRAY_OPT_RUNTIME", "DEBUGINFO_DEFAULT", "EXTEND_VARIABLE_LIFETIMES"),
    *("FULL_TRACEBACKS", "LLVM_REFPRUNE_FLAGS", "LLVM_REFPRUNE_PASS", "LOOP_VECTORIZE", "OPT"),
    *("SLP_VECTORIZE", "USING_SVML"),
)
"""Of ``numba.config``, what changes machine code; the processor's features are known to the code generator."""


def cache_folder() -> Path:
    """Folder of the compiled kernels: ``FGNUMBA_CACHE_DIR``, else below the user's cache folder."""
    override = os.environ.get(OVERRIDE)
    return Path(override) if override else Path(platformdirs.user_cache_dir("fgnumba")) / "kernels"


@cache
def sources_digest() -> str:
    """Return a hash of this package's sources and of what compiles them."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    for version in (sys.version, numba.__version__, llvmlite.__version__):
        digest.update(version.encode())
    return digest.hexdigest()


def compiler_settings() -> list[str]:
    """Return the settings of Numba that change machine code."""
    return [str(getattr(numba.config, setting, None)) for setting in _SETTINGS]


@cache
def _module_digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class KernelCache:
    """The disk cache of one kernel, in the form that Numba's dispatchers and callbacks ask for.

    Parameters
    ----------
    name : of the kernel.
    path : of the module that it stands in.
    """

    def __init__(self, name: str, path: str) -> None:
        self._name, self._module = name, path
        self.cache_path = str(cache_folder())

    def _path(self, sig: Any, codegen: Any) -> Path:
        sources = sources_digest(), _module_digest(self._module)
        key = repr((self._name, str(sig), codegen.magic_tuple(), compiler_settings(), sources))
        return Path(self.cache_path) / f"{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.bin"

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """Return the compiled kernel, or None where the file is absent, unreadable or damaged."""
        target_context.refresh()
        try:
            content = self._path(sig, target_context.codegen()).read_bytes()
        except OSError:
            return None
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            return None
        return CompileResult._rebuild(target_context, *pickle.loads(payload))

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        """Store the compiled kernel; a folder that cannot be written is left as it is."""
        payload = dumps(data._reduce())
        write_whole(self._path(sig, data.codegen), hashlib.sha256(payload).digest() + payload)


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
