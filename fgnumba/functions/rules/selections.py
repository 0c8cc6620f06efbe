"""Choices among numbers: where, clip, sort, interpolation."""

import numpy as np

from numba.core import types
from numba.extending import overload

from fgnumba.functions.registry import formula


def chosen(value, condition, dx, dy):
    raise NotImplementedError("it is for code that Numba compiles")


@overload(chosen, strict=False)
def _chosen(value, condition, dx, dy):
    if isinstance(condition, types.Array):
        if dx is types.none:
            return lambda value, condition, dx, dy: np.where(condition, 0.0 * value, dy)
        if dy is types.none:
            return lambda value, condition, dx, dy: np.where(condition, dx, 0.0 * value)
        return lambda value, condition, dx, dy: np.where(condition, dx, dy)
    if dx is types.none:
        return lambda value, condition, dx, dy: 0.0 * dy if condition else dy
    if dy is types.none:
        return lambda value, condition, dx, dy: dx if condition else 0.0 * dx
    return lambda value, condition, dx, dy: dx if condition else dy


@formula(np.where, "condition, *x, *y")
def _where(value, condition, x, y, dx, dy):
    return chosen(value, condition, dx, dy)


@formula(np.sort, "*a")
def _sort(y, a, da):
    return da[np.argsort(a, kind="mergesort")]
