"""Products of arrays, and their products with several tangents at once.

    d(A B) = dA B + A dB

Several tangents of an array (..., n) are floats (..., n, T) here, so that one product of matrices computes them all.
"""

import operator
from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload

from fgnumba.functions.auxiliary import INNER
from fgnumba.functions.registry import METHODS, formula_by_types
from fgnumba.functions.rules.sources import defined, lines
from fgnumba.functions.tangents import Tangents, as_floats, view_of


def floats(tangents: Any) -> Any:
    """Return the array (..., n) of vectors as floats (..., n, T), C-contiguous. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


def vectors(numbers: Any, zero: Any) -> Any:
    """Return floats (..., n, T) as an array (..., n) of vectors. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


def left_product(a: Any, db: Any) -> Any:
    """Return a db for floats db (k, T) or (k, n, T). For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


def right_product(da: Any, b: Any) -> Any:
    """Return da b for floats da (k, T) or (m, k, T). For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(floats, strict=False)
def _floats(tangents: Any) -> Any:
    if tangents.layout == "C":
        return lambda tangents: as_floats(tangents)
    return lambda tangents: as_floats(tangents.copy())


@overload(vectors, strict=False)
def _vectors(numbers: Any, zero: Any) -> Any:
    view = view_of(zero.dtype, zero.count, zero.collapsed)
    return lambda numbers, zero: view(np.ascontiguousarray(numbers))


@overload(left_product, strict=False)
def _left_product(a: Any, db: Any) -> Any:
    if db.ndim == 2:
        return lambda a, db: np.dot(a, db)
    if a.ndim == 1:

        def row(a, db):
            k, n, t = db.shape
            return np.dot(a, db.reshape((k, n * t))).reshape((n, t))

        return row

    def matrix(a, db):
        k, n, t = db.shape
        return np.dot(a, db.reshape((k, n * t))).reshape((len(a), n, t))

    return matrix


@overload(right_product, strict=False)
def _right_product(da: Any, b: Any) -> Any:
    if da.ndim == 2:
        return lambda da, b: np.dot(b.T, da)
    if b.ndim == 1:

        def column(da, b):
            m, _, t = da.shape
            result = np.empty((m, t), da.dtype)
            for index in range(m):
                result[index] = np.dot(b, da[index])
            return result

        return column

    def matrix(da, b):
        m, _, t = da.shape
        result = np.empty((m, b.shape[1], t), da.dtype)
        turned = b.T
        for index in range(m):
            result[index] = np.dot(turned, da[index])
        return result

    return matrix


@njit(**INNER)
def _inner(a, db, zero):
    """Return Σ a db of two rows, one of vectors."""
    total = zero
    for index in range(len(a)):
        total += db[index] * a[index]
    return total


def _product(function: Any) -> Any:
    def dot(y: Any, a: Any, b: Any, da: Any, db: Any, zero: Any) -> Any:
        left, right = db is not types.none, da is not types.none
        if not isinstance(zero, Tangents):
            if not right:
                return lambda y, a, b, da, db, zero: function(a, db)
            if not left:
                return lambda y, a, b, da, db, zero: function(da, b)
            return lambda y, a, b, da, db, zero: function(da, b) + function(a, db)
        if not isinstance(y, types.Array):
            if not right:
                return lambda y, a, b, da, db, zero: _inner(a, db, zero)
            if not left:
                return lambda y, a, b, da, db, zero: _inner(b, da, zero)
            return lambda y, a, b, da, db, zero: _inner(a, db, _inner(b, da, zero))
        if not right:
            return lambda y, a, b, da, db, zero: vectors(left_product(a, floats(db)), zero)
        if not left:
            return lambda y, a, b, da, db, zero: vectors(right_product(floats(da), b), zero)
        return lambda y, a, b, da, db, zero: vectors(
            right_product(floats(da), b) + left_product(a, floats(db)), zero
        )

    return dot


for _function in (np.dot, np.vdot, operator.matmul):
    formula_by_types(_function, "*a, *b", several=True)(_product(_function))
METHODS["Array", "dot"] = np.dot


@formula_by_types(np.outer, "*a, *b", several=True)
def _outer(y: Any, a: Any, b: Any, da: Any, db: Any, zero: Any) -> Any:
    # Numba reads numbers and matrices as rows, too.
    terms = []
    if da is not types.none:
        terms.append("da[i] * b[j]")
    if db is not types.none:
        terms.append("db[j] * a[i]")
    rows = [
        (name, kind) for name, kind in (("a", a), ("b", b), ("da", da), ("db", db)) if kind is not types.none
    ]
    return defined(
        lines(
            "def outer(y, a, b, da, db, zero):",
            *(f"    {name} = {name}.ravel()" for name, kind in rows if kind.ndim > 1),
            "    result = zeros_beside(y, zero)",
            "    for i in range(y.shape[0]):",
            "        for j in range(y.shape[1]):",
            f"            result[i, j] = {' + '.join(terms)}",
            "    return result",
        )
    )


def _note_bilinear(function: Any, signature: str) -> None:
    """Note a function that is linear in each of its first two arguments."""

    @formula_by_types(function, signature)
    def by_types(y: Any, *kinds: Any) -> Any:
        names = [part.partition("=")[0].strip(" *") for part in signature.split(",")]
        da, db = kinds[len(names) : len(names) + 2]
        first, second, *others = names
        rest = "".join(f", {name}" for name in others)
        terms = []
        if da is not types.none:
            terms.append(f"function(da, {second}{rest})")
        if db is not types.none:
            terms.append(f"function({first}, db{rest})")
        text = lines(f"def bilinear(y, {', '.join(names)}, da, db, zero):", f"    return {' + '.join(terms)}")
        return defined(text, ("function", function))


_note_bilinear(np.kron, "*a, *b")
_note_bilinear(np.cross, "*a, *b")
_note_bilinear(np.convolve, "*a, *v, mode='full'")
_note_bilinear(np.correlate, "*a, *v, mode='valid'")
