"""Solutions of linear equations, inverses, determinants and factors of matrices.

Source: M. B. Giles, An extended collection of matrix derivative results for forward and reverse mode algorithmic
differentiation, Oxford University Computing Laboratory NA-08/01, 2008.
"""

from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload

from fgnumba.functions.auxiliary import INNER
from fgnumba.functions.registry import composition, composition_by_types, formula, formula_by_types, real_only
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


@formula_by_types(np.linalg.solve, "*a, *b", several=True)
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


@formula_by_types(np.linalg.inv, "*a", several=True)
def _inv(y: Any, a: Any, da: Any, zero: Any) -> Any:
    if isinstance(zero, Tangents):
        return lambda y, a, da, zero: vectors(-left_product(y, right_product(floats(da), y)), zero)
    return lambda y, a, da, zero: -np.dot(y, np.dot(da, y))


@formula(np.linalg.det, "*a")
def _det(y, a, da, zero):
    if y != 0.0:
        return y * np.trace(np.linalg.solve(a, da))
    # A singular matrix: the sum of the determinants with one row replaced by its tangent.
    total = zero
    for row in range(len(a)):
        replaced = a.copy()
        replaced[row] = da[row]
        total += np.linalg.det(replaced)
    return total


@formula(np.linalg.cholesky, "*a")
def _cholesky(y, a, da, zero):
    # L Φ(L⁻¹ dA L⁻ᵀ): the lower triangle with half of the diagonal.
    inner = np.linalg.solve(y, np.ascontiguousarray(np.linalg.solve(y, _symmetric(da)).T))
    lower = np.tril(inner)
    for index in range(len(lower)):
        lower[index, index] *= 0.5
    return np.dot(y, lower)


@formula(np.linalg.slogdet, "*a")
def _slogdet(y, a, da, zero):
    return zero, np.trace(np.linalg.solve(a, da))


@formula(np.linalg.pinv, "*a")
def _pinv(y, a, da, zero):
    # For a constant rank; G. H. Golub and V. Pereyra, SIAM Journal on Numerical Analysis 10, 1973.
    y = np.ascontiguousarray(y)
    turned = np.ascontiguousarray(da.T)
    change = -np.dot(y, np.dot(da, y))
    change += np.dot(np.dot(y, y.T), turned - np.dot(turned, np.dot(a, y)))
    outside = turned - np.dot(y, np.dot(a, turned))
    return change + np.dot(outside, np.dot(y.T, y))


@njit(**INNER)
def _symmetric(da):
    """Return the symmetric matrix with the lower triangle of `da`, which is all that eigh reads."""
    return np.tril(da) + np.tril(da, -1).T


@formula(np.linalg.eigh, "*a")
def _eigh(y, a, da, zero):
    # For eigenvalues that differ:  dw = diag(Vᵀ dA V),  dV = V (F ∘ Vᵀ dA V) with Fᵢⱼ = 1 / (wⱼ − wᵢ)
    values, vectors = y
    change = np.dot(vectors.T, np.dot(_symmetric(da), vectors))
    rotation = np.zeros_like(change)
    for i in range(len(values)):
        for j in range(len(values)):
            if i != j:
                rotation[i, j] = change[i, j] / (values[j] - values[i])
    return np.diag(change).copy(), np.dot(vectors, rotation)


@formula(np.linalg.eigvalsh, "*a")
def _eigvalsh(y, a, da, zero):
    vectors = np.linalg.eigh(a)[1]
    return np.diag(np.dot(vectors.T, np.dot(_symmetric(da), vectors))).copy()


@formula(np.linalg.qr, "*a")
def _qr(y, a, da, zero):
    # C = Qᵀ dA R⁻¹;  dR = (C − W) R and dQ = dA R⁻¹ − Q (C − W), where W is skew with the lower triangle of C.
    q, r = np.ascontiguousarray(y[0]), np.ascontiguousarray(y[1])
    if a.shape[0] < a.shape[1]:
        raise ValueError("qr has a derivative for matrices with at least as many rows as columns")
    scaled = np.ascontiguousarray(np.linalg.solve(r.T, da.T).T)
    c = np.dot(q.T, scaled)
    lower = np.tril(c, -1)
    upper = c - lower + lower.T
    return scaled - np.dot(q, upper), np.dot(upper, r)


@composition(np.linalg.matrix_power, "*a, n")
def _matrix_power(a, n):
    base = a.copy() if n >= 0 else np.ascontiguousarray(np.linalg.inv(a))
    result = np.eye(len(a)).astype(a.dtype)
    for _ in range(abs(n)):
        result = np.dot(result, base)
    return result


@composition_by_types(np.linalg.cond, "*x, p=None")
def _cond(x: Any, p: Any) -> Any:
    if p is types.none:
        return lambda x, p: np.linalg.norm(x, 2) / np.linalg.norm(x, -2)

    def condition(x, p):
        if abs(p) == 2:
            return np.linalg.norm(x, p) / np.linalg.norm(x, -p)
        return np.linalg.norm(x, p) * np.linalg.norm(np.linalg.inv(x), p)

    return condition


real_only(
    np.linalg.cholesky, np.linalg.eigh, np.linalg.eigvalsh, np.linalg.pinv, np.linalg.qr, np.linalg.slogdet
)
real_only(np.linalg.cond)
