"""Arrays and lists of zero tangents beside those of values."""

from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload

from fgnumba.functions.auxiliary import INNER
from fgnumba.functions.registry import constant, linear
from fgnumba.functions.tangents import Tangents, in_any_order, view_of


def zeros_beside(array: Any, zero: Any) -> Any:
    """Return zero tangents of an array's shape; `zero` is the tangent of one number. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(zeros_beside, strict=False)
def _zeros_beside(array: Any, zero: Any) -> Any:
    return _beside(array, zero, np.zeros)


def empty_beside(array: Any, zero: Any) -> Any:
    """Return tangents of an array's shape that are to be written, all of them. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(empty_beside, strict=False)
def _empty_beside(array: Any, zero: Any) -> Any:
    return _beside(array, zero, np.empty)


def _beside(array: Any, zero: Any, make: Any) -> Any:
    """Return the function that makes tangents beside an array by ``make(shape, dtype)``; None if it is no array."""
    if not isinstance(array, types.Array):
        return None
    dtype = array.dtype
    if not isinstance(zero, Tangents):
        return _in_order(array.layout, lambda shape: make(shape, dtype))
    count = zero.count
    view = view_of(dtype, count, zero.collapsed)
    return _in_order(array.layout, lambda shape: view(make((*shape, count), dtype)))


def _in_order(layout: str, make: Any) -> Any:
    """Return the function that makes tangents in the order of the array beside them.

    Functions as ``ravel`` return a view or a copy by the type of an array. They must do the same to its tangents.
    """
    made = njit(**INNER)(make)
    if layout == "C":
        return lambda array, zero: made(array.shape)
    if layout == "F":
        return lambda array, zero: made(array.T.shape).T

    def any_order(array, zero):
        # Numba looks at the strides of such an array, and copies unless its elements lie one after another.
        if is_dense(array):
            return in_any_order(made(array.shape))
        return made((*array.shape, 2))[..., 0]

    return any_order


@njit(**INNER)
def is_dense(array):
    """Return whether the elements of an array lie one after another, in C order."""
    step = array.itemsize
    for axis in range(array.ndim - 1, -1, -1):
        if array.shape[axis] != 1 and array.strides[axis] != step:
            return False
        step *= array.shape[axis]
    return True


def zero_list(values: Any, zero: Any) -> Any:
    """Return zero tangents of a list, of which lists may be members. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(zero_list, strict=False)
def _zero_list(values: Any, zero: Any) -> Any:
    if isinstance(values.dtype, types.Array):
        return lambda values, zero: [zeros_beside(value, zero) for value in values]
    if isinstance(values.dtype, types.List):
        return lambda values, zero: [zero_list(value, zero) for value in values]
    return lambda values, zero: [zero for _ in values]


def like(zero: Any, value: Any) -> Any:
    """Return a number as the type of float of a tangent of one number. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(like, strict=False)
def _like(zero: Any, value: Any) -> Any:
    kind = zero.dtype if isinstance(zero, Tangents) else zero
    return lambda zero, value: kind(value)


constant(zeros_beside, empty_beside, zero_list)
linear(like, "zero, *value")
