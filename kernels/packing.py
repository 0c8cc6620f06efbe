"""Packed weights: (ceil(N / PANEL), K, PANEL), what a register tile reads in a row. Padding is zero."""

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.memory import aligned
from fgnumba.kernels.vector import PANEL


def pack(matrix: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return a (K, N) matrix as (panels, K, PANEL), or a (N,) vector as (panels * PANEL,), aligned."""
    array = np.asarray(matrix, np.float32)
    n = array.shape[-1]
    panels = -(-n // PANEL)
    if array.ndim == 1:
        vector = aligned((panels * PANEL,))
        vector[:n] = array
        return vector
    packed = aligned((panels, array.shape[0], PANEL))
    pack_into(packed, array)
    return packed


def pack_into(packed: npt.NDArray[np.float32], array: npt.NDArray[np.float32]) -> None:
    """Write a (K, N) matrix, or a (N,) vector, into its packed form."""
    n = array.shape[-1]
    if array.ndim == 1:
        packed[:n] = array
        return
    for panel in range(packed.shape[0]):
        block = array[:, panel * PANEL : min(n, (panel + 1) * PANEL)]
        packed[panel, :, : block.shape[1]] = block


def unpack(packed: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.float32]:
    """Return the (K, N) matrix or (N,) vector as a contiguous copy."""
    if packed.ndim == 1:
        return packed[:n].copy()
    panels, k, width = packed.shape
    return np.ascontiguousarray(packed.transpose(1, 0, 2).reshape(k, panels * width)[:, :n])
