"""Files that survive a crash: a file is replaced whole or not at all, and a log loses at most its end.

A power cut destroys what has not been flushed to the disk. A file is therefore written under a temporary name and
flushed before it is renamed, and its folder is flushed afterwards: at every moment the name refers to the whole old
content or to the whole new one.
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
"""The most bytes of a file's name that its temporary name contains; file systems allow 255 bytes a name."""
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to; it becomes `path` once all of its content is on the disk.

    On an error `path` is unchanged, and no temporary file is left. Only one process at a time may write a path.

    Parameters
    ----------
    path : pathlib.Path
        The file to create or replace.

    Yields
    ------
    binary file object
        The temporary file, unbuffered.

    Raises
    ------
    OSError
        If the file cannot be written or renamed.
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
    """Write all of `content`; an unbuffered file may need several calls, each of which writes a part."""
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[file.write(rest) :]


def temporary_name(path: Path) -> Path:
    """Return the name under which a file is written until it is whole: for ``model.bin``, ``.model.bin.part``."""
    return path.with_name(f".{shortened(path.name, MAX_NAME)}.part")


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk. Windows cannot do that, so nothing happens there."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, and the folders above it that are missing, so that they survive a crash."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


class AppendLog:
    """A file that grows at its end.

    Content that cannot be written is kept in memory and written with the content that follows, so a disk that is full
    for a while leaves no gap in the log.

    Parameters
    ----------
    path : pathlib.Path
        The file; it is created if it does not exist.
    size : int, optional
        The number of bytes of the file to keep; the bytes that follow are cut off. By default all are kept.

    Raises
    ------
    OSError
        If the file cannot be opened, or has fewer than `size` bytes.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self.path, self._pending = path, bytearray()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK | _BINARY, 0o666)
        self._file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115
        try:
            length = os.fstat(descriptor).st_size
            if size is not None and length < size:
                raise OSError(f"{path} has {length} bytes; {size} are required")
            self._written = length if size is None else size
            self._cut()
        except BaseException:
            self._file.close()
            raise

    @property
    def size(self) -> int:
        """The number of bytes of the log, including those that are not yet written."""
        return self._written + len(self._pending)

    def append(self, content: bytes) -> None:
        """Add `content` to the end of the log; the next :meth:`flush` writes it to the file."""
        self._pending += content

    def flush(self) -> None:
        """Write the bytes that are not yet written; after an error none of them is in the file, and all are kept."""
        if self._pending:
            # An interrupt between the write and the count of written bytes would make the two disagree, so it waits.
            with Uninterrupted():
                self._flush()

    def _flush(self) -> None:
        try:
            # An earlier write may have failed part of the way, and its bytes may still be there to overwrite.
            self._file.seek(self._written)
            write_all(self._file, bytes(self._pending))
        except OSError:
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self._written += len(self._pending)
        self._pending.clear()

    def sync(self) -> None:
        """Write the bytes that are not yet written, and flush the file to the disk."""
        self.flush()
        os.fsync(self._file.fileno())

    def cut(self, size: int) -> None:
        """Keep the first `size` bytes of the log and drop the rest."""
        del self._pending[max(0, size - self._written) :]
        if size < self._written:
            self._written = size
            self._cut()

    def read(self) -> bytes:
        """Return the bytes that have been written to the file."""
        with self.path.open("rb") as file:
            return file.read(self._written)

    def copy_to(self, path: Path) -> None:
        """Write the whole log to `path`, including the bytes that are not yet written to its own file."""
        rest = self._written
        with replacing(path) as copy, self.path.open("rb") as file:
            while chunk := file.read(min(rest, 1 << 20)):
                write_all(copy, chunk)
                rest -= len(chunk)
            write_all(copy, bytes(self._pending))

    def close(self) -> None:
        """Close the file; bytes that could not be written are lost."""
        self._file.close()

    def __enter__(self) -> "AppendLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cut(self) -> None:
        self._file.truncate(self._written)
        self._file.seek(self._written)
