"""Sums, products, extremes and other reductions of arrays."""

import builtins

import numpy as np

from fgnumba.functions.registry import METHODS, formula, linear


def plain(function):
    return lambda python: formula(function, "*a")(lambda *kinds: python)


linear(np.cumsum, "*a")
linear(np.trace, "*a, offset=0")
linear(builtins.sum, "*iterable, start=0")

for _name in ("sum", "mean", "cumsum", "prod", "cumprod", "max", "min", "var", "std"):
    METHODS["Array", _name] = getattr(np, _name)


linear(np.sum, "*a, axis=None")
linear(np.mean, "*a")


@plain(np.prod)
def _prod(y, a, da, zero):
    # Products of all others, without a division by the factor, which may be 0.
    result, before = 0.0 * y, y * 0 + 1
    flat, tangents = a.ravel(), da.ravel()
    for index in range(flat.size):
        result = result * flat[index] + before * tangents[index]
        before = before * flat[index]
    return result


@plain(np.cumprod)
def _cumprod(y, a, da, zero):
    result = np.empty_like(y)
    flat, tangents = a.ravel(), da.ravel()
    product, change = flat[0] * 0 + 1, flat[0] * 0
    for index in range(flat.size):
        change = change * flat[index] + product * tangents[index]
        product = product * flat[index]
        result[index] = change
    return result


def _extreme(y, a, da, zero):
    # Where several elements tie, each has an equal share.
    total, count = 0.0 * y, 0
    flat, tangents = a.ravel(), da.ravel()
    for index in range(flat.size):
        if flat[index] == y:
            total += tangents[index]
            count += 1
    return total / count


plain(np.max)(_extreme)
plain(np.min)(_extreme)
plain(np.nanmax)(_extreme)
plain(np.nanmin)(_extreme)


@plain(np.var)
def _var(y, a, da, zero):
    return 2.0 * np.mean((a - np.mean(a)) * da)


@plain(np.std)
def _std(y, a, da, zero):
    return np.mean((a - np.mean(a)) * da) / y
