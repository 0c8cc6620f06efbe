"""Aligned arrays, their addresses, the distance between their rows, and how much memory there is."""

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
    """More memory is asked for than there is."""


@cache
def physical_memory() -> int:
    """Return the bytes that this process can have at most: the machine's, or its container's."""
    limits = [sys.maxsize]
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit = cgroup.memory_limit()
    if limit < sys.maxsize:
        limits.append(int(limit))
    return min(limit for limit in limits if limit > 0)


def readable(nbytes: int) -> str:
    """Return bytes as a person reads them, ``"1.5 GiB"``."""
    for power, unit in enumerate(("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")):
        if nbytes < 1024 ** (power + 1):
            return f"{nbytes / 1024**power:.{min(power, 1)}f} {unit}"
    return "more than 1024 EiB"


def round_up(n: int, multiple: int) -> int:
    """Return the least multiple of `multiple` that is at least `n`."""
    return -(-n // multiple) * multiple


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return zeros that begin at a cache line.

    Raises
    ------
    NoRoomError
        There is not so much memory. The system may grant it nevertheless, and end the process when it is used.
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
    """Return the address of an array's first element, on a GPU or the host; 0 for None."""
    if array is None:
        return 0
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.address)


def leading(width: int) -> int:
    """Return the elements from one row of a float32 buffer to the next, for rows of `width`.

    Whole panels fit, and the distance is an odd number of cache lines: the rows of a register tile then
    fall into different sets of the first-level cache. (A power of two would put them all into one: measured
    at half the speed for twelve rows.)
    """
    lane = CACHE_LINE // 4
    return round_up(width, PANEL) + lane


def pads_well(row_elements: int) -> bool:
    """Whether rows this far apart can be read by a register tile at full speed."""
    return row_elements * 4 % 1024 != 0 or row_elements < 256
