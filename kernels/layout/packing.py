"""Packed weights: matrices stored as (panels, K, PANEL), in the order in which a register tile reads them.

A panel holds PANEL neighbouring columns of the matrix, row after row. If N is no multiple of PANEL, the last panel is
filled up with columns of zeros. Columns in G groups, as in a grouped convolution, are filled up group by group, so
each group takes ceil(N / G / PANEL) panels.
"""

import math

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.memory import aligned


def packed_size(shape: tuple[int, ...], groups: int = 1) -> int:
    """Return how many elements an array (..., N) takes when it is packed."""
    return math.prod(shape[:-1]) * groups * -(-shape[-1] // groups // PANEL) * PANEL


def pack(matrix: npt.ArrayLike, groups: int = 1) -> npt.NDArray[np.float32]:
    """Return a packed copy that begins at a cache line.

    Parameters
    ----------
    matrix : array
        (K, N), packed as (panels, K, PANEL), or (N,), packed as (panels * PANEL,).
    groups : int
        Number of groups of columns.
    """
    array = np.asarray(matrix, np.float32)
    panels = groups * -(-array.shape[-1] // groups // PANEL)
    packed = aligned((panels, array.shape[0], PANEL) if array.ndim == 2 else (panels * PANEL,))
    pack_into(packed, array, groups)
    return packed


def pack_into(packed: npt.NDArray[np.float32], array: npt.NDArray[np.float32], groups: int = 1) -> None:
    """Write a (K, N) matrix, or an (N,) vector, into the packed array `packed`."""
    each = array.shape[-1] // groups
    if array.ndim == 1:
        packed.reshape(groups, -1)[:, :each] = array.reshape(groups, each)
        return
    across = packed.shape[0] // groups
    for panel in range(packed.shape[0]):
        group, first = panel // across * each, panel % across * PANEL
        block = array[:, group + first : group + min(each, first + PANEL)]
        packed[panel, :, : block.shape[1]] = block


def unpack(packed: npt.NDArray[np.float32], n: int, groups: int = 1) -> npt.NDArray[np.float32]:
    """Return the (K, N) matrix, or the (N,) vector, of a packed array as a contiguous copy.

    Parameters
    ----------
    packed : array, (panels, K, PANEL) or (panels * PANEL,) float32
        The packed array.
    n : int
        N, the number of columns without padding.
    groups : int
        Number of groups of columns.
    """
    each = n // groups
    if packed.ndim == 1:
        return packed.reshape(groups, -1)[:, :each].flatten()
    panels, k, width = packed.shape
    columns = packed.transpose(1, 0, 2).reshape(k, groups, panels // groups * width)
    return columns[:, :, :each].reshape(k, n).copy()
