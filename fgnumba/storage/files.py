"""Files that others wrote: only regular ones are opened, and no more is read than was said."""

import errno
import io
import os
import stat
from pathlib import Path


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading: no pipe, which could keep its reader waiting, and no device, which need not end.

    Raises
    ------
    OSError
        The file cannot be opened, or is no regular one.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  (the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def size_of(file: io.BufferedReader) -> int:
    """Return the bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def read_whole(path: Path, most: int) -> bytes:
    """Return what a file of at most so many bytes holds.

    Raises
    ------
    OSError
        As :func:`open_regular`, or the file is longer.
    """
    with open_regular(path) as file:
        size = size_of(file)
        if size > most:
            raise OSError(errno.EFBIG, f"{size:,} bytes; at most {most:,} are possible", os.fspath(path))
        return file.read(size)
