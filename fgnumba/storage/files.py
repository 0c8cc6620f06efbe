"""Read files that somebody else wrote: only regular files are opened, and no more bytes than a stated limit."""

import errno
import io
import os
import stat
from pathlib import Path


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a regular file for reading.

    Pipes and devices are refused: a pipe can keep its reader waiting, and a device need not end.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    io.BufferedReader
        The open file; the caller closes it.

    Raises
    ------
    OSError
        If the file cannot be opened, or is not a regular file.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  (the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def size_of(file: io.BufferedReader) -> int:
    """Return the number of bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def read_whole(path: Path, most: int) -> bytes:
    """Return the content of a regular file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    most : int
        The largest number of bytes that the file may have.

    Raises
    ------
    OSError
        If the file cannot be opened, is not a regular file, or is longer than `most` bytes.
    """
    with open_regular(path) as file:
        size = size_of(file)
        if size > most:
            raise OSError(errno.EFBIG, f"{size:,} bytes; at most {most:,} are possible", os.fspath(path))
        return file.read(size)
