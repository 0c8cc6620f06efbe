"""Files that outlive a crash: replaced whole or not at all, and logs that lose at most their end.

What a power cut takes is what was not flushed to the disk. So a file is written under a temporary name and flushed
before it is renamed, and the folder is flushed after: at every moment the name stands for the old content or the new
one, whole.
Source: T. S. Pillai et al., *All file systems are not created equal*, OSDI 2014.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fgnumba.uninterrupted import Uninterrupted
from fgnumba.validation.paths import shortened

MAX_NAME = 200
"""Bytes of a name that a temporary one takes over: file systems have room for 255."""
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file, which becomes `path` when all of it is on the disk.

    On an error `path` stays what it was, and nothing is left beside it. One process at a time may write a path.

    Raises
    ------
    OSError
    """
    temporary = temporary_name(path)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | _NO_LINK | _BINARY, 0o666)
    try:
        with open(descriptor, "w+b", buffering=0) as file:
            yield file
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def replace(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all, as :func:`replacing` does."""
    with replacing(path) as file:
        write_all(file, content)


def write_all(file: BinaryIO, content: bytes | memoryview) -> None:
    """Write all of `content`, which an unbuffered file may take in parts."""
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[file.write(rest) :]


def temporary_name(path: Path) -> Path:
    """Return the name that a file has until it is whole."""
    return path.with_name(f".{shortened(path.name, MAX_NAME)}.part")


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, that outlive a crash."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


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
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK | _BINARY, 0o666)
        self._file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115
        try:
            found = os.fstat(descriptor).st_size
            if size is not None and found < size:
                raise OSError(f"{path} has {found} bytes; {size} are required")
            self._written = found if size is None else size
            self._cut()
        except BaseException:
            self._file.close()
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
        if self._pending:
            # What has been written must be known to be: an interrupt waits.
            with Uninterrupted():
                self._flush()

    def _flush(self) -> None:
        try:
            # After a write that failed in its midst, and could not be cut off.
            self._file.seek(self._written)
            write_all(self._file, bytes(self._pending))
        except OSError:
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self._written += len(self._pending)
        self._pending.clear()

    def sync(self) -> None:
        """Write what waits, and flush the file to the disk."""
        self.flush()
        os.fsync(self._file.fileno())

    def cut(self, size: int) -> None:
        """Drop what follows the first `size` bytes."""
        del self._pending[max(0, size - self._written) :]
        if size < self._written:
            self._written = size
            self._cut()

    def read(self) -> bytes:
        """Return what has been written."""
        with self.path.open("rb") as file:
            return file.read(self._written)

    def copy_to(self, path: Path) -> None:
        """Write to `path` all of the log, what waits to be written among it."""
        rest = self._written
        with replacing(path) as copy, self.path.open("rb") as file:
            while chunk := file.read(min(rest, 1 << 20)):
                write_all(copy, chunk)
                rest -= len(chunk)
            write_all(copy, bytes(self._pending))

    def close(self) -> None:
        """Close the file; what could not be written is lost."""
        self._file.close()

    def __enter__(self) -> "AppendLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cut(self) -> None:
        self._file.truncate(self._written)
        self._file.seek(self._written)
