"""Arrays and lists of zero tangents beside those of values."""

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from fgnumba.functions.registry import constant, linear
from fgnumba.functions.tangents import Tangents, view_of


def zeros_beside(array: Any, zero: Any) -> Any:
    """Return zero tangents of an array's shape; `zero` is the tangent of one number. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(zeros_beside, strict=False)
def _zeros_beside(array: Any, zero: Any) -> Any:
    if not isinstance(array, types.Array):
        return None
    dtype = array.dtype
    if not isinstance(zero, Tangents):

        def one(array, zero):
            return np.zeros(array.shape, dtype)

        return one
    count = zero.count
    view = view_of(dtype, count, zero.collapsed)

    def several(array, zero):
        return view(np.zeros((*array.shape, count), dtype))

    return several


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


def empty_beside(array: Any, zero: Any) -> Any:
    """Return tangents of an array's shape that are to be written, all of them. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(empty_beside, strict=False)
def _empty_beside(array: Any, zero: Any) -> Any:
    if not isinstance(array, types.Array):
        return None
    dtype = array.dtype
    if not isinstance(zero, Tangents):
        return lambda array, zero: np.empty(array.shape, dtype)
    count = zero.count
    view = view_of(dtype, count, zero.collapsed)
    return lambda array, zero: view(np.empty((*array.shape, count), dtype))




def like(zero: Any, value: Any) -> Any:
    """Return a number as the type of float of a tangent of one number. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(like, strict=False)
def _like(zero: Any, value: Any) -> Any:
    kind = zero.dtype if isinstance(zero, Tangents) else zero
    return lambda zero, value: kind(value)


constant(zeros_beside, empty_beside, zero_list)
linear(like, "zero, *value")
