"""The arguments of kernels: records of int64 (addresses, sizes, flags), and the layout of scratch memory."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.machine.memory import CACHE_LINE, round_up


def record(*names: str) -> np.dtype[Any]:
    """Return the dtype of a kernel's arguments: one int64 for each name.

    The last, ``scratch``, is the address of the scratch memory.
    """
    return np.dtype([(name, np.int64) for name in (*names, "scratch")])


def filled(dtype: np.dtype[Any], values: Mapping[str, int]) -> npt.NDArray[Any]:
    """Return a (1,) array of `dtype` with the given values, and 0 in all other fields."""
    arguments = np.zeros(1, dtype)
    for name, value in values.items():
        arguments[name] = value
    return arguments


def lay_out(regions: Iterable[tuple[str, int]]) -> tuple[dict[str, int], int]:
    """Return the offset of each region in scratch memory, and the size of all.

    Parameters
    ----------
    regions : iterable of (str, int)
        Name and bytes of each region. Every region begins at a cache line, so that two regions never share one.
    """
    offsets, end = {}, 0
    for name, size in regions:
        offsets[name] = end
        end += round_up(size, CACHE_LINE)
    return offsets, end
