"""Solution of a small symmetric system G c = x by Cholesky, on the CPU.

Kernels that use it are compiled with sums that may be reassociated, so that they are vectorised. A row that depends
linearly on those before it is left out, and its entry of c is 0.
"""

from typing import Any

import numpy as np
from numba.extending import register_jitable

FAST = {"contract", "nsz", "reassoc"}
"""The fast-math flags of a kernel that solves. NaN stays NaN."""


@register_jitable
def factor(lower: Any, kept: Any, n: int, dependent: float) -> float:
    """Overwrite the lower triangle of G (n, n) with L, G = L Lᵀ, and return the rank.

    Parameters
    ----------
    lower : array, (n, n) float64
        The lower triangle of G.
    kept : array, (n,) float64
        Written: 1 for a row that is kept, 0 for one that depends on those before it.
    n : int
        Number of rows.
    dependent : float
        A row is left out if no more than this share of its square is left once the rows before it are taken away.

    Notes
    -----
    Cost: n³ / 6 multiply-adds.
    """
    rank = 0.0
    for t in range(n):
        for first in range(0, t, 4):
            _four_entries(lower, kept, t, first)
        square = lower[t, t]
        rest = square
        for s in range(t):
            rest -= lower[t, s] * lower[t, s]
        # NaN is kept, so that it shows in the result.
        kept[t] = 0.0 if rest <= dependent * square else 1.0
        lower[t, t] = np.sqrt(rest) if kept[t] > 0 else 1.0
        rank += kept[t]
    return rank


@register_jitable
def _four_entries(lower: Any, kept: Any, t: int, first: int) -> None:
    """Write up to four entries of row t: over the columns before them all, their sums share the row's loads."""
    last = min(first + 4, t)
    if last == first + 4:
        d0, d1, d2, d3 = np.float64(0), np.float64(0), np.float64(0), np.float64(0)
        for k in range(first):
            own = lower[t, k]
            d0 += own * lower[first, k]
            d1 += own * lower[first + 1, k]
            d2 += own * lower[first + 2, k]
            d3 += own * lower[first + 3, k]
        lower[t, first] -= d0
        lower[t, first + 1] -= d1
        lower[t, first + 2] -= d2
        lower[t, first + 3] -= d3
    for s in range(first, last):
        value = lower[t, s]
        for k in range(first if last == first + 4 else 0, s):
            value -= lower[t, k] * lower[s, k]
        lower[t, s] = value / lower[s, s] if kept[s] > 0 else 0.0


@register_jitable
def substitute(lower: Any, kept: Any, x: Any, n: int) -> None:
    """Overwrite x[1:] with the solution c of L Lᵀ c = x[1:]."""
    for t in range(n):
        value = x[1 + t]
        for s in range(t):
            value -= lower[t, s] * x[1 + s]
        x[1 + t] = value / lower[t, t] if kept[t] > 0 else 0.0
    for back in range(n):
        t = n - 1 - back
        x[1 + t] = x[1 + t] / lower[t, t] if kept[t] > 0 else 0.0
        for s in range(t):
            x[1 + s] -= lower[t, s] * x[1 + t]
