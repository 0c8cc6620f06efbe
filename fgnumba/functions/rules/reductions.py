"""Sums, products, extremes and other reductions of arrays."""

import builtins

import numpy as np

from fgnumba.functions.registry import METHODS, formula, linear

linear(np.sum, "*a, axis=None")
linear(np.mean, "*a")
linear(np.cumsum, "*a")
linear(np.trace, "*a")
linear(builtins.sum, "*iterable")

for _name in ("sum", "mean", "cumsum", "prod", "cumprod", "max", "min", "var", "std", "ptp"):
    METHODS["Array", _name] = getattr(np, _name)


@formula(np.prod, "*a")
def _prod(y, a, da):
    # Products of all others, without a division by the factor, which may be 0.
    result, before = 0.0 * y, y * 0 + 1
    flat, tangents = a.ravel(), da.ravel()
    for index in range(flat.size):
        result = result * flat[index] + before * tangents[index]
        before = before * flat[index]
    return result


@formula(np.cumprod, "*a")
def _cumprod(y, a, da):
    result = np.empty_like(y)
    flat, tangents = a.ravel(), da.ravel()
    product, change = flat[0] * 0 + 1, flat[0] * 0
    for index in range(flat.size):
        change = change * flat[index] + product * tangents[index]
        product = product * flat[index]
        result[index] = change
    return result


def _extreme(y, a, da):
    # Where several elements tie, each has an equal share.
    total, count = 0.0 * y, 0
    flat, tangents = a.ravel(), da.ravel()
    for index in range(flat.size):
        if flat[index] == y:
            total += tangents[index]
            count += 1
    return total / count


formula(np.max, "*a")(_extreme)
formula(np.min, "*a")(_extreme)
formula(np.nanmax, "*a")(_extreme)
formula(np.nanmin, "*a")(_extreme)


@formula(np.var, "*a")
def _var(y, a, da):
    return 2.0 * np.mean((a - np.mean(a)) * da)


@formula(np.std, "*a")
def _std(y, a, da):
    return np.mean((a - np.mean(a)) * da) / y
