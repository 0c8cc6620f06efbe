"""Parts of the compiled loops around tangents: zero tangents to begin with, and single tangents of results.

All functions but :func:`zero_maker` are for compiled code.
"""

from functools import cache
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from fgnumba.functions.carriers import NUMBERS, carries
from fgnumba.functions.registry import constant, identity
from fgnumba.functions.tangents import Tangents, lane, vector_of
from fgnumba.kernels.machine.identity import DEPENDS_ON


@cache
def zero_maker(chunk: int | None, collapsed: bool = False) -> Any:
    """Return the Numba function whose value is the zero tangent, or vector of them, of an argument's numbers."""

    def zero_for(argument: Any) -> Any:
        raise NotImplementedError("it is for code that Numba compiles")

    @overload(zero_for, strict=False)
    def implementation(argument: Any) -> Any:
        dtype = number_type(argument)
        if chunk is None:
            zero = np.float32(0) if dtype == types.float32 else 0.0
            return lambda argument: zero
        vector = vector_of(dtype, chunk, collapsed)
        return lambda argument: vector()

    constant(zero_for)
    setattr(zero_for, DEPENDS_ON, (chunk, collapsed))
    return zero_for


def number_type(argument: types.Type) -> types.Float:
    """Return the type of an argument's numbers, the widest of them."""
    if isinstance(argument, types.Array):
        return number_type(argument.dtype)
    if isinstance(argument, types.BaseTuple):
        kinds = [number_type(member) for member in argument.types if carries(member)]
        return types.float32 if kinds and all(kind == types.float32 for kind in kinds) else types.float64
    return types.float32 if argument in (types.float32, types.complex64) else types.float64


def one_lane(tangent: Any, index: int) -> Any:
    """Return one tangent of a number; 0 of what carries none. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(one_lane, strict=False)
def _one_lane(tangent: Any, index: Any) -> Any:
    if isinstance(tangent, Tangents):
        return lambda tangent, index: lane(tangent, index)
    if isinstance(tangent, NUMBERS):
        return lambda tangent, index: tangent
    return (lambda tangent, index: 0.0) if tangent is types.none else None


def put_column(result: Any, column: int, tangent: Any, index: int) -> Any:
    """Write one tangent of an array, number or tuple into a column of the Jacobian. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(put_column, strict=False)
def _put_column(result: Any, column: Any, tangent: Any, index: Any) -> Any:
    if isinstance(tangent, types.BaseTuple):
        if len(tangent) == 0:
            return lambda result, column, tangent, index: 0

        def members(result, column, tangent, index):
            rows = put_column(result, column, tangent[0], index)
            return rows + put_column(result[rows:], column, tangent[1:], index)

        return members
    if isinstance(tangent, types.Array):

        def array(result, column, tangent, index):
            row = 0
            for where in np.ndindex(tangent.shape):
                result[row, column] = one_lane(tangent[where], index)
                row += 1
            return row

        return array

    if tangent is types.none:
        return lambda result, column, tangent, index: 0

    def number(result, column, tangent, index):
        result[0, column] = one_lane(tangent, index)
        return 1

    return number


def tangent_or_zero(tangent: Any) -> Any:
    """Return a tangent; 0 where there is none. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(tangent_or_zero, strict=False)
def _tangent_or_zero(tangent: Any) -> Any:
    if tangent is types.none:
        return lambda tangent: 0.0
    return lambda tangent: tangent


def dtype_for(argument: Any) -> Any:
    """Return the NumPy type of an argument's numbers. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(dtype_for, strict=False)
def _dtype_for(argument: Any) -> Any:
    dtype = np.float32 if number_type(argument) == types.float32 else np.float64
    return lambda argument: dtype


constant(dtype_for)
identity(one_lane, "*tangent, index")
identity(tangent_or_zero, "*tangent")
