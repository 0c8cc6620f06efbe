"""Norms of vectors and matrices: dy = Σ ∂y/∂x · dx, with JAX's conventions where they have kinks.

Where several elements, columns or rows tie for a maximum or minimum, each has an equal share; |x| has slope 1 at 0.
"""

from typing import Any

import numpy as np
from numba import njit
from numba.core import types

from fgnumba.functions.auxiliary import INNER
from fgnumba.functions.registry import formula_by_types, real_only
from fgnumba.functions.zeros import like


@njit(error_model="numpy", **INNER)
def _weight(x, y, order):
    """Return ∂y/∂x of an element of a vector with norm y."""
    size, sign = abs(x), 1.0 if x >= 0 else -1.0
    if order == 1:
        return sign
    if order == 0:
        return 0.0 * x
    if abs(order) == np.inf:
        return sign if size == y else 0.0
    if order == 2:
        return x / y
    return sign * (size / y) ** (order - 1)


@formula_by_types(np.linalg.norm, "*x, ord=None", several=True)
def _norm(y: Any, x: Any, order: Any, dx: Any, zero: Any) -> Any:
    if isinstance(order, types.NoneType):

        def euclidean(y, x, order, dx, zero):
            total = zero
            for place in np.ndindex(x.shape):
                total += dx[place] * (x[place] / y)
            return total

        return euclidean
    return _vector_norm if x.ndim == 1 else _matrix_norm


def _vector_norm(y, x, order, dx, zero):
    total, ties = zero, 0
    for index in range(len(x)):
        total += dx[index] * like(zero, _weight(x[index], y, order))
        if abs(x[index]) == y:
            ties += 1
    if abs(order) == np.inf:
        total = total * like(zero, 1.0 / ties)
    return total


def _matrix_norm(y, x, order, dx, zero):
    total, ties = zero, 0
    if abs(order) == 2:
        u, s, vt = np.linalg.svd(x, False)
        for k in range(len(s)):
            if s[k] == (s[0] if order == 2 else s[-1]):
                ties += 1
                for i in range(x.shape[0]):
                    for j in range(x.shape[1]):
                        total += dx[i, j] * (u[i, k] * vt[k, j])
        return total * like(zero, 1.0 / ties)
    # Sums of columns for 1, of rows for infinity.
    columns = abs(order) == 1
    sums = np.sum(np.abs(x), 0) if columns else np.sum(np.abs(x), 1)
    extreme = np.max(sums) if order > 0 else np.min(sums)
    for k in range(len(sums)):
        if sums[k] == extreme:
            ties += 1
            for i in range(x.shape[0] if columns else x.shape[1]):
                row, column = (i, k) if columns else (k, i)
                total += dx[row, column] * like(zero, 1.0 if x[row, column] >= 0 else -1.0)
    return total * like(zero, 1.0 / ties)


real_only(np.linalg.norm)
