"""Medians, quantiles, covariances and integrals by the trapezoid rule, computed from functions that have rules.

Ties keep the order of the argument, as in a stable sort.
"""

from typing import Any

import numpy as np
from numba.core import types

from fgnumba.functions.registry import composition, composition_by_types, real_only
from fgnumba.functions.rules.calls import jitted


@composition(np.median, "*a")
def _median(a):
    return _middle(a.ravel())


@composition(np.nanmedian, "*a")
def _nanmedian(a):
    flat = a.ravel()
    return _middle(flat[~np.isnan(flat)])


@jitted
def _middle(values):
    ordered = np.sort(values)
    half = len(ordered) // 2
    if len(ordered) % 2 == 1:
        return ordered[half]
    return ordered[half - 1] + (ordered[half] - ordered[half - 1]) / 2


@jitted
def _quantile(ordered, q):
    position = q * (len(ordered) - 1)
    lower = int(np.floor(position))
    upper = min(lower + 1, len(ordered) - 1)
    part = position - lower
    return ordered[lower] + (ordered[upper] - ordered[lower]) * part


@jitted
def _quantiles(ordered, q):
    result = np.empty(len(q))
    for index in range(len(q)):
        result[index] = _quantile(ordered, q[index])
    return result


def _note_quantile(function: Any, scale: float, skips: bool) -> None:
    @composition_by_types(function, "*a, q")
    def by_types(a: Any, q: Any) -> Any:
        if not isinstance(a, types.Array):
            return None
        one = _quantile if isinstance(q, types.Number) else _quantiles
        if not isinstance(q, (types.Number, types.Array)):
            return None
        if skips:

            def without_nan(a, q):
                flat = a.ravel()
                return one(np.sort(flat[~np.isnan(flat)]), q / scale)

            return without_nan
        return lambda a, q: one(np.sort(a.ravel()), q / scale)


_note_quantile(np.quantile, 1.0, False)
_note_quantile(np.percentile, 100.0, False)
_note_quantile(np.nanquantile, 1.0, True)
_note_quantile(np.nanpercentile, 100.0, True)


@jitted
def _covariance(rows, delta):
    count = rows.shape[1]
    centred = np.empty_like(rows)
    for index in range(len(rows)):
        centred[index] = rows[index] - np.mean(rows[index])
    return np.dot(centred, centred.T) / (count - delta)


@jitted
def _pair(x, y):
    rows = np.empty((2, len(x)))
    rows[0] = x
    rows[1] = y
    return rows


@composition_by_types(np.cov, "*m, *y=None, rowvar=True, bias=False, ddof=None")
def _cov(m: Any, y: Any, rowvar: Any, bias: Any, ddof: Any) -> Any:
    if ddof is types.none:
        if not _is_matrix(m) or y is not types.none:
            if not (_is_row(m) and _is_row(y)):
                return None
            return lambda m, y, rowvar, bias, ddof: _covariance(_pair(m, y), 0 if bias else 1)
        return lambda m, y, rowvar, bias, ddof: _covariance(
            np.ascontiguousarray(m) if rowvar else np.ascontiguousarray(m.T), 0 if bias else 1
        )
    if not _is_matrix(m) or y is not types.none:
        return None
    return lambda m, y, rowvar, bias, ddof: _covariance(
        np.ascontiguousarray(m) if rowvar else np.ascontiguousarray(m.T), ddof
    )


@jitted
def _correlation(covariance):
    deviations = np.sqrt(np.diag(covariance))
    return covariance / np.outer(deviations, deviations)


@composition_by_types(np.corrcoef, "*x, *y=None, rowvar=True")
def _corrcoef(x: Any, y: Any, rowvar: Any) -> Any:
    if _is_row(x) and _is_row(y):
        return lambda x, y, rowvar: _correlation(_covariance(_pair(x, y), 1))
    if not _is_matrix(x) or y is not types.none:
        return None
    return lambda x, y, rowvar: _correlation(
        _covariance(np.ascontiguousarray(x) if rowvar else np.ascontiguousarray(x.T), 1)
    )


def _is_matrix(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.ndim == 2


def _is_row(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.ndim == 1


@composition_by_types(np.trapezoid, "*y, *x=None, *dx=1.0")
def _trapezoid(y: Any, x: Any, dx: Any) -> Any:
    if not _is_row(y):
        return None
    if x is types.none:
        return lambda y, x, dx: np.sum(y[1:] + y[:-1]) * (0.5 * dx)
    return lambda y, x, dx: np.sum((y[1:] + y[:-1]) * (x[1:] - x[:-1])) * 0.5


real_only(np.cov, np.corrcoef)
