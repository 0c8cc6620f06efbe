"""Sums over the threads of a warp or a block, always in the same order: no result depends on which thread is first."""

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
"""Warps of a block of ``layout.THREADS``."""

SLOT = 8 * WARPS
"""Bytes of shared memory that :func:`block_sum` needs."""

_STEPS = 5
_HALF_WARP = WARP // 2


@device_function
def warp_sum(value: np.float32) -> np.float32:
    """Return the sum over a warp, to each of its lanes."""
    for step in range(_STEPS):
        value = value + lanes_xor_f32(value, _HALF_WARP >> step)
    return value


@device_function
def warp_max(value: np.float32) -> np.float32:
    """Return the greatest of a warp's values, to each of its lanes."""
    for step in range(_STEPS):
        other = lanes_xor_f32(value, _HALF_WARP >> step)
        value = other if other > value else value
    return value


@device_function
def warp_sum_f64(value: np.float64) -> np.float64:
    """Return the sum over a warp, to each of its lanes."""
    for step in range(_STEPS):
        value = value + lanes_xor_f64(value, _HALF_WARP >> step)
    return value


@device_function
def block_sum(value: np.float64, at: int) -> np.float64:
    """Return the sum over a block, to each of its threads, through ``SLOT`` bytes of shared memory at `at`.

    Threads may still read there when it returns: the next sum wants another slot, or a barrier.
    """
    total = warp_sum_f64(value)
    if thread() % WARP == 0:
        shared_store_f64(at + thread() // WARP * 8, total)
    barrier()
    total = np.float64(0)
    for warp in range(WARPS):
        total = total + shared_load_f64(at + 8 * warp)
    return total
