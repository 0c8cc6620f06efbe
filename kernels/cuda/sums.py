"""Sums over the threads of a warp or a block.

Numbers are always added in the same order, so that no result depends on the order in which threads run.
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.layout import THREADS
from fgnumba.kernels.cuda.primitives import (
    WARP,
    barrier,
    lanes_xor_f32,
    lanes_xor_f64,
    shared_load_f64,
    shared_store_f64,
    thread,
)

WARPS = THREADS // WARP
"""Number of warps of a block of ``layout.THREADS`` threads."""

SLOT = 8 * WARPS
"""Bytes of shared memory that :func:`block_sum` uses."""

_STEPS = 5
_HALF_WARP = WARP // 2


@device_function
def warp_sum(value: np.float32) -> np.float32:
    """Return the sum of a float32 over the lanes of a warp; every lane gets it."""
    for step in range(_STEPS):
        value = value + lanes_xor_f32(value, _HALF_WARP >> step)
    return value


@device_function
def warp_max(value: np.float32) -> np.float32:
    """Return the greatest float32 of the lanes of a warp; every lane gets it."""
    for step in range(_STEPS):
        other = lanes_xor_f32(value, _HALF_WARP >> step)
        value = other if other > value else value
    return value


@device_function
def warp_sum_f64(value: np.float64) -> np.float64:
    """Return the sum of a float64 over the lanes of a warp; every lane gets it."""
    for step in range(_STEPS):
        value = value + lanes_xor_f64(value, _HALF_WARP >> step)
    return value


@device_function
def block_sum(value: np.float64, at: int) -> np.float64:
    """Return the sum of a float64 over the threads of a block; every thread gets it.

    Threads may still read shared memory when the function returns: the next sum must use another slot, or a barrier
    must come before it.

    Parameters
    ----------
    value : float64
        The thread's number.
    at : int
        Address of ``SLOT`` bytes of shared memory, through which the sum goes.

    Returns
    -------
    float64
        The sum.
    """
    total = warp_sum_f64(value)
    if thread() % WARP == 0:
        shared_store_f64(at + thread() // WARP * 8, total)
    barrier()
    total = np.float64(0)
    for warp in range(WARPS):
        total = total + shared_load_f64(at + 8 * warp)
    return total
