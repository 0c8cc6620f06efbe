"""Sums, products, extremes and moments of arrays.

Sources: for var, d Σ (x − m)² / n = 2/n Σ (x − m) dx, since the deviations add up to 0. Where several elements tie for
a maximum or minimum, each has an equal share of the tangent.
"""

import builtins
from typing import Any

import numpy as np
from numba.core import types

from fgnumba.functions.registry import (
    METHODS,
    composition,
    composition_by_types,
    formula,
    formula_by_types,
    linear,
    real_only,
)
from fgnumba.functions.rules.products import floats, vectors
from fgnumba.functions.rules.sources import defined, lines
from fgnumba.functions.tangents import Tangents
from fgnumba.functions.zeros import like, zeros_beside

linear(np.cumsum, "*a")
linear(np.trace, "*a, offset=0")

for _name in ("sum", "mean", "cumsum", "prod", "cumprod", "max", "min", "var", "std"):
    METHODS["Array", _name] = getattr(np, _name)


@formula_by_types(np.sum, "*a, axis=None", several=True, curved=False)
def _sum(y: Any, a: Any, axis: Any, da: Any, zero: Any) -> Any:
    if isinstance(axis, types.NoneType):
        return _total
    if not isinstance(zero, Tangents):
        return lambda y, a, axis, da, zero: np.sum(da, axis)
    dimensions = a.ndim
    if dimensions == 1:
        return _total
    return lambda y, a, axis, da, zero: vectors(
        np.sum(floats(da), axis if axis >= 0 else axis + dimensions), zero
    )


def _total(y, a, axis, da, zero):
    total = zero
    for place in np.ndindex(a.shape):
        total += da[place]
    return total


@formula(np.nansum, "*a", several=True, curved=False)
def _nansum(y, a, da, zero):
    total = zero
    for place in np.ndindex(a.shape):
        if not np.isnan(a[place]):
            total += da[place]
    return total


@formula(np.mean, "*a", several=True, curved=False)
def _mean(y, a, da, zero):
    total = zero
    for place in np.ndindex(a.shape):
        total += da[place]
    return total * like(zero, 1.0 / a.size)


@formula_by_types(builtins.sum, "*iterable, *start=0", several=True, curved=False)
def _sum_of_list(y: Any, iterable: Any, start: Any, d_iterable: Any, d_start: Any, zero: Any) -> Any:
    if d_iterable is types.none:
        return lambda y, iterable, start, d_iterable, d_start, zero: d_start
    if isinstance(iterable, types.BaseTuple):
        places = [index for index, kind in enumerate(d_iterable) if kind is not types.none]
        return _sum_of_tuple(tuple(places), d_start is not types.none)

    def total_from_zero(y, iterable, start, d_iterable, d_start, zero):
        total = zero
        for tangent in d_iterable:
            total += tangent
        return total

    def total_from_start(y, iterable, start, d_iterable, d_start, zero):
        total = d_start
        for tangent in d_iterable:
            total += tangent
        return total

    return total_from_zero if d_start is types.none else total_from_start


def _sum_of_tuple(places: tuple[int, ...], started: bool) -> Any:
    terms = [f"d_iterable[{index}]" for index in places] + (["d_start"] if started else [])
    return defined(
        lines(
            "def total(y, iterable, start, d_iterable, d_start, zero):",
            f"    return {' + '.join(terms)}",
        )
    )


@formula(np.prod, "*a", several=True)
def _prod(y, a, da, zero):
    # Products of all others, without a division by the factor, which may be 0.
    result, before = zero, 1.0
    for place in np.ndindex(a.shape):
        result = result * like(zero, a[place]) + da[place] * like(zero, before)
        before = before * a[place]
    return result


@formula(np.nanprod, "*a", several=True)
def _nanprod(y, a, da, zero):
    result, before = zero, 1.0
    for place in np.ndindex(a.shape):
        if not np.isnan(a[place]):
            result = result * like(zero, a[place]) + da[place] * like(zero, before)
            before = before * a[place]
    return result


@formula(np.cumprod, "*a", several=True)
def _cumprod(y, a, da, zero):
    result = zeros_beside(y, zero)
    change, before = zero, 1.0
    for index, place in enumerate(np.ndindex(a.shape)):
        change = change * like(zero, a[place]) + da[place] * like(zero, before)
        before = before * a[place]
        result[index] = change
    return result


@formula(np.nancumprod, "*a", several=True)
def _nancumprod(y, a, da, zero):
    result = zeros_beside(y, zero)
    change, before = zero, 1.0
    for index, place in enumerate(np.ndindex(a.shape)):
        if not np.isnan(a[place]):
            change = change * like(zero, a[place]) + da[place] * like(zero, before)
            before = before * a[place]
        result[index] = change
    return result


@formula(np.nancumsum, "*a", several=True, curved=False)
def _nancumsum(y, a, da, zero):
    result = zeros_beside(y, zero)
    change = zero
    for index, place in enumerate(np.ndindex(a.shape)):
        if not np.isnan(a[place]):
            change += da[place]
        result[index] = change
    return result


def _extreme(y, a, da, zero):
    total, count = zero, 0
    for place in np.ndindex(a.shape):
        if a[place] == y:
            total += da[place]
            count += 1
    return total * like(zero, 1.0 / count)


for _function in (np.max, np.min, np.amax, np.amin, np.nanmax, np.nanmin):
    formula(_function, "*a", several=True, curved=False)(_extreme)


@composition(np.ptp, "*a")
def _ptp(a):
    return np.max(a) - np.min(a)


@formula(np.var, "*a", several=True)
def _var(y, a, da, zero):
    mean, total = np.mean(a), zero
    for place in np.ndindex(a.shape):
        total += da[place] * like(zero, 2.0 * (a[place] - mean) / a.size)
    return total


@formula(np.std, "*a", several=True)
def _std(y, a, da, zero):
    mean, total = np.mean(a), zero
    for place in np.ndindex(a.shape):
        total += da[place] * like(zero, (a[place] - mean) / (y * a.size))
    return total


@formula(np.nanmean, "*a", several=True, curved=False)
def _nanmean(y, a, da, zero):
    total, count = zero, 0
    for place in np.ndindex(a.shape):
        if not np.isnan(a[place]):
            total += da[place]
            count += 1
    return total * like(zero, 1.0 / count)


@formula(np.nanvar, "*a", several=True)
def _nanvar(y, a, da, zero):
    mean, total, count = np.nanmean(a), zero, 0
    for place in np.ndindex(a.shape):
        if not np.isnan(a[place]):
            total += da[place] * like(zero, 2.0 * (a[place] - mean))
            count += 1
    return total * like(zero, 1.0 / count)


@formula(np.nanstd, "*a", several=True)
def _nanstd(y, a, da, zero):
    mean, total, count = np.nanmean(a), zero, 0
    for place in np.ndindex(a.shape):
        if not np.isnan(a[place]):
            total += da[place] * like(zero, (a[place] - mean) / y)
            count += 1
    return total * like(zero, 1.0 / count)


@composition_by_types(np.average, "*a, axis=None, *weights=None")
def _average(a: Any, axis: Any, weights: Any) -> Any:
    if weights is types.none:
        return lambda a, axis, weights: np.mean(a)
    return lambda a, axis, weights: np.sum(a * weights) / np.sum(weights)


real_only(np.var, np.std, np.nanvar, np.nanstd)
