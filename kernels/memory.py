"""Aligned arrays, their addresses, and the distance between their rows."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.vector import PANEL

CACHE_LINE = 64


def round_up(n: int, multiple: int) -> int:
    """Return the least multiple of `multiple` that is at least `n`."""
    return -(-n // multiple) * multiple


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return zeros that begin at a cache line."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
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
