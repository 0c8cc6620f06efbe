"""Solution of a small symmetric system G c = x by Cholesky, on a GPU, by one block; see ``cpu``.

`work` holds n rows of n + 1 float64, of which row s holds column s of G from the diagonal on, and x_s behind it; the
square roots on the diagonal follow, n float64. One column of the triangle is computed after another.
"""

import math

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.layout import THREADS
from fgnumba.kernels.cuda.primitives import barrier, load_f64, store_f64, thread

_ZERO = np.float64(0)


def work_size(count: int) -> int:
    """Return the number of float64 of `work` for a system of `count` rows."""
    return count * (count + 2)


@device_function
def entry(work: int, count: int, s: int, t: int) -> int:
    """Return the address of L_ts, an entry of the triangle; t = `count` is x_s, which becomes the solution."""
    return work + 8 * (s * (count + 1) + t)


@device_function
def factor(work: int, count: int, dependent: np.float64) -> int:
    """Factor G, solve L y = x, and return the rank; a row that depends on those before it is left out."""
    pivots = work + 8 * count * (count + 1)
    for s in range(count):
        for t in range(s + thread(), count + 1, THREADS):
            square = load_f64(entry(work, count, s, t))
            value = square
            for k in range(s):
                value = value - load_f64(entry(work, count, k, t)) * load_f64(entry(work, count, k, s))
            if t == s:
                # NaN is kept, so that it shows in the result.
                left_out = value <= dependent * square
                store_f64(pivots + 8 * s, _ZERO if left_out else np.float64(math.sqrt(value)))
            else:
                store_f64(entry(work, count, s, t), value)
        barrier()
        pivot = load_f64(pivots + 8 * s)
        for t in range(s + thread(), count + 1, THREADS):
            if t > s:
                at = entry(work, count, s, t)
                store_f64(at, _ZERO if pivot == _ZERO else load_f64(at) / pivot)
        barrier()
    rank = 0
    for s in range(count):
        if load_f64(pivots + 8 * s) != _ZERO:
            rank += 1
    return rank


@device_function
def substitute(work: int, count: int, scale: np.float64, out: int) -> None:
    """Write `scale` times the solution of G c = x to the `count` float64 at `out`."""
    pivots = work + 8 * count * (count + 1)
    for back in range(count):
        t = count - 1 - back
        pivot, c = load_f64(pivots + 8 * t), _ZERO
        if pivot != _ZERO:
            c = load_f64(entry(work, count, t, count)) / pivot
        for s in range(thread(), t, THREADS):
            at = entry(work, count, s, count)
            store_f64(at, load_f64(at) - load_f64(entry(work, count, s, t)) * c)
        if thread() == 0:
            store_f64(out + 8 * t, c * scale)
        barrier()
