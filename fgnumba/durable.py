"""Files that outlive a crash: replaced whole or not at all, and logs that lose at most their end.

What a power cut takes is what was not flushed to the disk. So a file is written under a temporary name and flushed before
it is renamed, and the folder is flushed after: at every moment the name stands for the old content or the new one, whole.
Source: T. S. Pillai et al., *All file systems are not created equal*, OSDI 2014.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)


def replace(path: Path, content: Iterable[bytes | memoryview]) -> None:
    """Write `content`, chunk by chunk, to `path`: on an error the file is what it was, and nothing is left beside it.

    One process at a time may write a path.

    Raises
    ------
    OSError
    """
    temporary = temporary_name(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _NO_LINK | _BINARY, 0o666)
    try:
        try:
            for chunk in content:
                _write(descriptor, chunk)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def temporary_name(path: Path) -> Path:
    """Return the name that a file has until it is whole."""
    return path.with_name(f".{path.name}.part")


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes | memoryview) -> None:
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class AppendLog:
    """A file that grows at its end.

    What cannot be written is kept, and goes with what comes next: a disk that was full for a while leaves no gap.

    Parameters
    ----------
    path : created where it is not there.
    size : bytes of it that count; what follows them is cut off. None: all.

    Raises
    ------
    OSError
        Also where the file is shorter than `size`.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self.path, self._pending = path, bytearray()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK | _BINARY, 0o666)
        try:
            found = os.fstat(self._descriptor).st_size
            if size is not None and found < size:
                raise OSError(f"{path} has {found} bytes; {size} are required")
            self._written = found if size is None else size
            self._cut()
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def size(self) -> int:
        """Bytes of the log, those that wait to be written among them."""
        return self._written + len(self._pending)

    def append(self, content: bytes) -> None:
        """Take `content`; :meth:`flush` writes it."""
        self._pending += content

    def flush(self) -> None:
        """Write what waits; on an error it waits on, and none of it is in the file."""
        if not self._pending:
            return
        try:
            _write(self._descriptor, bytes(self._pending))
        except OSError:
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self._written += len(self._pending)
        self._pending.clear()

    def sync(self) -> None:
        """Write what waits, and flush the file to the disk."""
        self.flush()
        os.fsync(self._descriptor)

    def read(self) -> bytes:
        """Return what has been written."""
        return self.path.read_bytes()[: self._written]

    def close(self) -> None:
        """Close the file; what could not be written is lost."""
        os.close(self._descriptor)

    def _cut(self) -> None:
        if os.fstat(self._descriptor).st_size != self._written:
            os.ftruncate(self._descriptor, self._written)
        os.lseek(self._descriptor, self._written, os.SEEK_SET)

    def __enter__(self) -> "AppendLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
