"""Solutions of linear equations, inverses, determinants and factors of matrices.

Source: M. B. Giles, An extended collection of matrix derivative results for forward and reverse mode algorithmic
differentiation, Oxford University Computing Laboratory NA-08/01, 2008.
"""

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from fgnumba.functions.registry import formula
from fgnumba.functions.rules.products import floats, left_product, right_product, vectors
from fgnumba.functions.tangents import Tangents


def solution(a: Any, b: Any) -> Any:
    """Return x with a x = b for floats b (n, T) or (n, k, T): one factorization. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(solution, strict=False)
def _solution(a: Any, b: Any) -> Any:
    if b.ndim == 2:
        return lambda a, b: np.linalg.solve(a, b)

    def matrix(a, b):
        n, k, t = b.shape
        # The solution is in Fortran order, which Numba's reshape would keep.
        flat = np.linalg.solve(a, np.ascontiguousarray(b).reshape((n, k * t)))
        return np.ascontiguousarray(flat).reshape((n, k, t))

    return matrix


@formula(np.linalg.solve, "*a, *b", several=True)
def _solve(y: Any, a: Any, b: Any, da: Any, db: Any, zero: Any) -> Any:
    # A y = b:  A dy = db − dA y
    if isinstance(zero, Tangents):
        if da is types.none:
            return lambda y, a, b, da, db, zero: vectors(solution(a, floats(db)), zero)
        if db is types.none:
            return lambda y, a, b, da, db, zero: vectors(solution(a, -right_product(floats(da), y)), zero)
        return lambda y, a, b, da, db, zero: vectors(
            solution(a, floats(db) - right_product(floats(da), y)), zero
        )
    if da is types.none:
        return lambda y, a, b, da, db, zero: np.linalg.solve(a, db)
    if db is types.none:
        return lambda y, a, b, da, db, zero: np.linalg.solve(a, -np.dot(da, y))
    return lambda y, a, b, da, db, zero: np.linalg.solve(a, db - np.dot(da, y))


@formula(np.linalg.inv, "*a", several=True)
def _inv(y: Any, a: Any, da: Any, zero: Any) -> Any:
    if isinstance(zero, Tangents):
        return lambda y, a, da, zero: vectors(-left_product(y, right_product(floats(da), y)), zero)
    return lambda y, a, da, zero: -np.dot(y, np.dot(da, y))


@formula(np.linalg.det, "*a")
def _det(y: Any, a: Any, da: Any, zero: Any) -> Any:
    def det(y, a, da, zero):
        if y != 0.0:
            return y * np.trace(np.linalg.solve(a, da))
        # A singular matrix: the sum of the determinants with one row replaced by its tangent.
        total = zero
        for row in range(len(a)):
            replaced = a.copy()
            replaced[row] = da[row]
            total += np.linalg.det(replaced)
        return total

    return det


@formula(np.linalg.cholesky, "*a")
def _cholesky(y: Any, a: Any, da: Any, zero: Any) -> Any:
    # L Φ(L⁻¹ dA L⁻ᵀ): the lower triangle with half of the diagonal. Numba reads the lower triangle of A alone.
    def cholesky(y, a, da, zero):
        change = np.tril(da) + np.tril(da, -1).T
        inner = np.linalg.solve(y, np.ascontiguousarray(np.linalg.solve(y, change).T))
        lower = np.tril(inner)
        for index in range(len(lower)):
            lower[index, index] *= 0.5
        return np.dot(y, lower)

    return cholesky
