"""Products and solutions of linear equations.

Source: M. B. Giles, An extended collection of matrix derivative results for forward and reverse mode algorithmic
differentiation, Oxford University Computing Laboratory NA-08/01, 2008.
"""

import operator

import numpy as np

from fgnumba.functions.registry import METHODS, formula


def _dot(y, a, b, da, db):
    if da is None:
        return np.dot(a, db)
    if db is None:
        return np.dot(da, b)
    return np.dot(da, b) + np.dot(a, db)


for _function in (np.dot, np.matmul, operator.matmul, np.vdot):
    formula(_function, "*a, *b")(_dot)
METHODS["Array", "dot"] = np.dot


@formula(np.outer, "*a, *b")
def _outer(y, a, b, da, db):
    if da is None:
        return np.outer(a, db)
    if db is None:
        return np.outer(da, b)
    return np.outer(da, b) + np.outer(a, db)


@formula(np.linalg.solve, "*a, *b")
def _solve(y, a, b, da, db):
    # A y = b:  A dy = db − dA y
    if da is None:
        return np.linalg.solve(a, db)
    if db is None:
        return -np.linalg.solve(a, np.dot(da, y))
    return np.linalg.solve(a, db - np.dot(da, y))


@formula(np.linalg.inv, "*a")
def _inv(y, a, da):
    return -np.dot(y, np.dot(da, y))


@formula(np.linalg.det, "*a")
def _det(y, a, da):
    return y * np.trace(np.linalg.solve(a, da))


@formula(np.linalg.norm, "*x")
def _norm(y, x, dx):
    return np.sum(x * dx) / y


@formula(np.linalg.cholesky, "*a")
def _cholesky(y, a, da):
    # L Φ(L⁻¹ dA L⁻ᵀ): the lower triangle with half of the diagonal.
    inner = np.linalg.solve(y, np.ascontiguousarray(np.linalg.solve(y, da).T))
    lower = np.tril(inner)
    for index in range(len(lower)):
        lower[index, index] *= 0.5
    return np.dot(y, lower)
