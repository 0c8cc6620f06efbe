"""What stands for ``numpy`` and ``math`` in a program that runs with `Number` in the place of floats.

Arrays are NumPy's own, of objects: indexing, views, broadcasting and assignment are NumPy's. What computes is here,
in the plainest way: linear algebra by elimination, sorting by comparison.
"""

import types
from typing import Any

import numpy as np
from mpmath import mp

from tests.functions.exact_numbers import Number, decided, made, plain, whole


def _signed(value):
    decided(value, 0)
    return mp.sign(value)


def _cbrt(value):
    return mp.sign(value) * mp.cbrt(abs(value))


def _absolute(value):
    decided(value, 0)
    return abs(value)


def _copysign(left, right):
    return _absolute(left) * _signed(right)


def _larger(left, right):
    decided(left, right)
    return max(left, right)


def _smaller(left, right):
    decided(left, right)
    return min(left, right)


def _truncated(value):
    return whole(value, mp.floor if value > 0 else mp.ceil)


def _nearest(value):
    decided(value, mp.floor(value) + mp.mpf(0.5))
    return mp.nint(value)


UNARY = {
    **{name: getattr(mp, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "sqrt")},
    **{name: getattr(mp, name) for name in ("erf", "erfc", "gamma", "expm1", "log1p", "log10", "log")},
    **{f"a{name}": getattr(mp, f"a{name}") for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{f"arc{name}": getattr(mp, f"a{name}") for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "lgamma": mp.loggamma,
    "exp2": lambda value: mp.mpf(2) ** value,
    "log2": lambda value: mp.log(value) / mp.log(2),
    "cbrt": _cbrt,
    "square": lambda value: value * value,
    "reciprocal": lambda value: 1 / value,
    "negative": lambda value: -value,
    "positive": lambda value: value,
    "abs": _absolute,
    "absolute": _absolute,
    "fabs": _absolute,
    "sign": _signed,
    "floor": lambda value: whole(value, mp.floor),
    "ceil": lambda value: whole(value, mp.ceil),
    "trunc": _truncated,
    "rint": _nearest,
    **{name: lambda value: value * mp.pi / 180 for name in ("deg2rad", "radians")},
    **{name: lambda value: value * 180 / mp.pi for name in ("rad2deg", "degrees")},
}
BINARY = {
    "add": lambda left, right: left + right,
    "subtract": lambda left, right: left - right,
    "multiply": lambda left, right: left * right,
    "divide": lambda left, right: left / right,
    "true_divide": lambda left, right: left / right,
    "power": lambda left, right: left**right,
    "pow": lambda left, right: left**right,
    "hypot": lambda left, right: mp.sqrt(left * left + right * right),
    "arctan2": mp.atan2,
    "atan2": mp.atan2,
    "copysign": _copysign,
    "maximum": _larger,
    "fmax": _larger,
    "minimum": _smaller,
    "fmin": _smaller,
    "fmod": lambda left, right: left - right * _truncated(left / right),
    "mod": lambda left, right: left - right * whole(left / right, mp.floor),
    "remainder": lambda left, right: left - right * whole(left / right, mp.floor),
    "logaddexp": lambda left, right: mp.log(mp.exp(left) + mp.exp(right)),
    "logaddexp2": lambda left, right: mp.log(mp.mpf(2) ** left + mp.mpf(2) ** right) / mp.log(2),
}
"""Functions of single numbers, by NumPy's and by ``math``'s name."""


def _entry_by_entry(function, operands):
    computed = np.frompyfunc(lambda *entries: made(function(*map(plain, entries))), operands, 1)
    return lambda *arguments: computed(*arguments)


def _objects(values) -> np.ndarray:
    """Return an array of objects whose numbers are all exact."""
    array = np.array(values, dtype=object)
    return np.frompyfunc(lambda entry: entry if isinstance(entry, Number) else Number(plain(entry)), 1, 1)(
        array
    )


def _filled(value):
    def make(shape, *rest):
        if isinstance(shape, np.ndarray):
            shape = shape.shape
        array = np.empty(shape, dtype=object)
        array[...] = rest[0] if value is None else Number(mp.mpf(value))
        return array

    return make


def _sum(array, axis=None):
    return np.add.reduce(array, axis) if axis is not None else _total(list(array.flat))


def _total(terms):
    total = terms[0] * 1.0
    for term in terms[1:]:
        total = total + term
    return total


def _mean(array, axis=None):
    return _sum(array, axis) / (array.size if axis is None else array.shape[axis])


def _variance(array):
    return _mean((array - _mean(array)) ** 2)


def _root(value):
    return made(mp.sqrt(plain(value)))


def _norm(array, order=None):
    entries = list(array.flat)
    if order == 1:
        return _total([abs(entry) for entry in entries])
    if order == mp.inf:
        return max(abs(entry) for entry in entries)
    return _root(_total([entry * entry for entry in entries]))


def _eliminated(matrix, right):
    """Return the solution of ``matrix x = right`` and the determinant, by elimination with the largest pivot."""
    a, b, n = matrix.copy(), right.copy(), len(matrix)
    sign, pivots = 1, []
    for column in range(n):
        pivot = column + int(np.argmax([abs(plain(entry)) for entry in a[column:, column]]))
        if pivot != column:
            a[[column, pivot]], b[[column, pivot]], sign = a[[pivot, column]], b[[pivot, column]], -sign
        pivots.append(a[column, column])
        for row in range(column + 1, n):
            factor = a[row, column] / a[column, column]
            a[row, column:] = a[row, column:] - factor * a[column, column:]
            b[row] = b[row] - factor * b[column]
    for row in range(n - 1, -1, -1):
        for later in range(row + 1, n):
            b[row] = b[row] - a[row, later] * b[later]
        b[row] = b[row] / a[row, row]
    determinant = pivots[0]
    for pivot in pivots[1:]:
        determinant = determinant * pivot
    return b, determinant * sign


def _inverse(matrix):
    return _eliminated(matrix, _objects(np.eye(len(matrix))))[0]


def _determinant(matrix):
    return _eliminated(matrix, _objects(np.zeros(len(matrix))))[1]


def _slogdet(matrix):
    value = _determinant(matrix)
    return float(mp.sign(value.value)), made(mp.log(abs(value.value)))


def _cholesky(matrix):
    n = len(matrix)
    lower = _filled(0)((n, n))
    for i in range(n):
        for j in range(i + 1):
            rest = matrix[i, j]
            for k in range(j):
                rest = rest - lower[i, k] * lower[j, k]
            lower[i, j] = _root(rest) if i == j else rest / lower[j, j]
    return lower


def _interp(x, xp, fp):
    def one(value):
        for knot in xp:
            decided(plain(value), plain(knot))
        if plain(value) <= plain(xp[0]):
            return fp[0]
        for k in range(len(xp) - 1):
            if plain(value) < plain(xp[k + 1]):
                return fp[k] + (value - xp[k]) * ((fp[k + 1] - fp[k]) / (xp[k + 1] - xp[k]))
        return fp[-1]

    return np.frompyfunc(one, 1, 1)(x)


def _median(array):
    ordered = sorted(array.flat)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _where(condition, left, right):
    return np.where(condition, np.asarray(left, dtype=object), np.asarray(right, dtype=object))


def _clip(array, low, high):
    return _FUNCTIONS["minimum"](_FUNCTIONS["maximum"](array, low), high)


def _trapezoid(y, dx=1.0):
    return _total([(y[k] + y[k + 1]) * 0.5 * dx for k in range(len(y) - 1)])


def _linspace(start, stop, count):
    return _objects([plain(start) + (plain(stop) - plain(start)) * k / (count - 1) for k in range(count)])


_FUNCTIONS = {
    **{name: _entry_by_entry(function, 1) for name, function in UNARY.items()},
    **{name: _entry_by_entry(function, 2) for name, function in BINARY.items()},
}
_NUMPY = {
    **_FUNCTIONS,
    **{"sum": _sum, "mean": _mean, "var": _variance, "std": lambda array: _root(_variance(array))},
    **{"prod": np.multiply.reduce, "cumsum": np.add.accumulate, "cumprod": np.multiply.accumulate},
    **{"dot": np.dot, "vdot": np.dot, "outer": np.outer, "kron": np.kron, "diff": np.diff, "cross": np.cross},
    **{"max": np.max, "min": np.min, "amax": np.max, "amin": np.min, "ptp": lambda a: np.max(a) - np.min(a)},
    **{"sort": np.sort, "argsort": np.argsort, "argmax": np.argmax, "argmin": np.argmin, "median": _median},
    **{"where": _where, "clip": _clip, "interp": _interp, "trapz": _trapezoid, "linspace": _linspace},
    **{
        name: getattr(np, name)
        for name in ("concatenate", "stack", "hstack", "vstack", "column_stack", "repeat")
    },
    **{
        name: getattr(np, name)
        for name in ("flip", "fliplr", "roll", "transpose", "reshape", "ravel", "append")
    },
    **{name: getattr(np, name) for name in ("trace", "diag", "triu", "tril", "copy", "ascontiguousarray")},
    **{"zeros": _filled(0), "zeros_like": _filled(0), "ones": _filled(1), "ones_like": _filled(1)},
    **{"empty": _filled(0), "empty_like": _filled(0), "full": _filled(None), "full_like": _filled(None)},
    **{"array": _objects, "eye": lambda n: _objects(np.eye(n)), "arange": np.arange, "asarray": np.asarray},
    **{"pi": np.pi, "e": np.e, "inf": mp.inf, "newaxis": None, "float64": lambda value: value},
}


class _Linalg:
    solve = staticmethod(lambda matrix, right: _eliminated(matrix, right)[0])
    inv, det = staticmethod(_inverse), staticmethod(_determinant)
    slogdet, cholesky, norm = staticmethod(_slogdet), staticmethod(_cholesky), staticmethod(_norm)


def numpy_and_math() -> tuple[Any, Any]:
    """Return what the names ``np`` and ``math`` of a program stand for."""
    numpy = types.SimpleNamespace(**_NUMPY, linalg=_Linalg)
    scalars = {name: _FUNCTIONS[name] for name in (*UNARY, *BINARY)}
    return numpy, types.SimpleNamespace(**scalars, pi=np.pi, e=np.e, inf=mp.inf)
