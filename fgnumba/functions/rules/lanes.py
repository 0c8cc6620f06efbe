"""Single tangents out of vectors of several, and back: for rules that know one tangent at a time."""

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from fgnumba.functions.tangents import Tangents, lane, with_lane
from fgnumba.functions.zeros import zeros_beside


def pick(tangents: Any, index: int) -> Any:
    """Return one tangent of a number, array or tuple that has several. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


def placed(tangents: Any, index: int, tangent: Any) -> Any:
    """Return vectors in which one tangent is replaced; arrays are changed in place. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


def begun(tangent: Any, zero: Any) -> Any:
    """Return zero vectors of the shape of one tangent. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


def count_of(zero: Any) -> int:
    """Return the number of tangents in a vector. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


def added(first: Any, second: Any) -> Any:
    """Return the sum of two tangents of a number, array or tuple. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(added, strict=False)
def _added(first: Any, second: Any) -> Any:
    if first is types.none or second is types.none:
        return lambda first, second: first
    if isinstance(first, types.BaseTuple) and len(first) == 1:
        return lambda first, second: (added(first[0], second[0]),)
    if isinstance(first, types.BaseTuple):
        return lambda first, second: (added(first[0], second[0]), *added(first[1:], second[1:]))
    return lambda first, second: first + second


@overload(count_of, strict=False)
def _count_of(zero: Any) -> Any:
    count = zero.count
    return lambda zero: count


@overload(pick, strict=False)
def _pick(tangents: Any, index: Any) -> Any:
    if isinstance(tangents, Tangents):
        return lambda tangents, index: lane(tangents, index)
    if isinstance(tangents, types.Array) and isinstance(tangents.dtype, Tangents):
        dtype = _NUMPY[tangents.dtype.dtype]

        def array(tangents, index):
            result = np.empty(tangents.shape, dtype)
            for where, value in np.ndenumerate(tangents):
                result[where] = lane(value, index)
            return result

        return array
    if isinstance(tangents, types.BaseTuple) and len(tangents) == 1:
        return lambda tangents, index: (pick(tangents[0], index),)
    if isinstance(tangents, types.BaseTuple):
        return lambda tangents, index: (pick(tangents[0], index), *pick(tangents[1:], index))
    return lambda tangents, index: tangents


_NUMPY = {types.float32: np.float32, types.float64: np.float64}


@overload(placed, strict=False)
def _placed(tangents: Any, index: Any, tangent: Any) -> Any:
    if isinstance(tangents, Tangents):
        return lambda tangents, index, tangent: with_lane(tangents, index, tangent)
    if tangents is types.none:
        return lambda tangents, index, tangent: None
    if isinstance(tangents, types.BaseTuple) and len(tangents) == 1:
        return lambda tangents, index, tangent: (placed(tangents[0], index, tangent[0]),)
    if isinstance(tangents, types.BaseTuple):
        return lambda tangents, index, tangent: (
            placed(tangents[0], index, tangent[0]),
            *placed(tangents[1:], index, tangent[1:]),
        )

    def array(tangents, index, tangent):
        for where in np.ndindex(tangents.shape):
            tangents[where] = with_lane(tangents[where], index, tangent[where])
        return tangents

    return array


@overload(begun, strict=False)
def _begun(tangent: Any, zero: Any) -> Any:
    if isinstance(tangent, types.Array):
        return lambda tangent, zero: zeros_beside(tangent, zero)
    if tangent is types.none:
        return lambda tangent, zero: None
    if isinstance(tangent, types.BaseTuple) and len(tangent) == 1:
        return lambda tangent, zero: (begun(tangent[0], zero),)
    if isinstance(tangent, types.BaseTuple):
        return lambda tangent, zero: (begun(tangent[0], zero), *begun(tangent[1:], zero))
    return lambda tangent, zero: zero
