"""Arrays that begin at a cache line, their addresses, the distance between their rows, and the size of the memory."""

import math
import os
import sys
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import DeviceError
from fgnumba.kernels.emit.vector import CACHE_LINE, PANEL
from fgnumba.kernels.machine import cgroup


class NoRoomError(DeviceError, MemoryError):
    """More memory is requested than this process can have."""


@cache
def physical_memory() -> int:
    """Return the most bytes that this process can have: the machine's memory, or its container's limit."""
    limits = [sys.maxsize]
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit = cgroup.memory_limit()
    if limit < sys.maxsize:
        limits.append(int(limit))
    return min(limit for limit in limits if limit > 0)


def readable(nbytes: int) -> str:
    """Return a number of bytes as text for people, for example ``"1.5 GiB"``."""
    for power, unit in enumerate(("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")):
        if nbytes < 1024 ** (power + 1):
            return f"{nbytes / 1024**power:.{min(power, 1)}f} {unit}"
    return "more than 1024 EiB"


def round_up(n: int, multiple: int) -> int:
    """Return the least multiple of `multiple` that is at least `n`."""
    return -(-n // multiple) * multiple


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return an array of zeros that begins at a cache line.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array.
    dtype : dtype
        Type of its elements.

    Raises
    ------
    NoRoomError
        The machine has less memory than this. The system might grant the request nevertheless, and then kill the
        process when the memory is used.
    """
    dtype = np.dtype(dtype)
    size = math.prod(map(int, shape)) * dtype.itemsize
    if size > physical_memory():
        raise NoRoomError(
            f"a buffer of {readable(size)} is asked for; this machine has {readable(physical_memory())}"
        )
    buffer = np.zeros(size + CACHE_LINE, np.uint8)
    start = -buffer.ctypes.data % CACHE_LINE
    return buffer[start : start + size].view(dtype).reshape(shape)


def address(array: Any) -> int:
    """Return the address of an array's first element, in host or GPU memory; 0 for None."""
    if array is None:
        return 0
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.address)


def leading(width: int) -> int:
    """Return the number of elements from one row of a float32 buffer to the next, for rows of `width` elements.

    A row has room for whole panels, and the distance is an odd number of cache lines. The rows that a register tile
    reads then fall into different sets of the first-level cache. With a power of two they would all fall into the
    same set, which was measured at half the speed for twelve rows.
    """
    lane = CACHE_LINE // 4
    return round_up(width, PANEL) + lane


def pads_well(row_elements: int) -> bool:
    """Whether a register tile can read rows that are `row_elements` apart at full speed."""
    return row_elements * 4 % 1024 != 0 or row_elements < 256
