"""The numbers of an argument in a row: unit tangents for some of them, and an argument of the same structure again.

An argument is a number, an array, or a tuple of arguments; integers and what else carries nothing have no numbers here.
All functions are for compiled code.
"""

from typing import Any

from numba.core import types
from numba.extending import overload

from fgnumba.functions.carriers import carries
from fgnumba.functions.registry import constant, same
from fgnumba.functions.rules.lanes import count_of
from fgnumba.functions.tangents import Tangents, with_lane
from fgnumba.functions.zeros import zeros_beside


def leaf_count(argument: Any) -> int:
    """Return the number of numbers in an argument."""
    raise NotImplementedError("it is for code that Numba compiles")


def seeded(argument: Any, zero: Any, first: int) -> Any:
    """Return an argument's tangents: lane k has 1 for number `first` + k, and 0 elsewhere."""
    raise NotImplementedError("it is for code that Numba compiles")


def shaped(argument: Any, numbers: Any, first: int) -> Any:
    """Return numbers from `first` on in the structure of an argument."""
    raise NotImplementedError("it is for code that Numba compiles")


def copied(argument: Any) -> Any:
    """Return an argument whose arrays are copies."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(leaf_count, strict=False)
def _leaf_count(argument: Any) -> Any:
    if not carries(argument):
        return lambda argument: 0
    if isinstance(argument, types.Array):
        return lambda argument: argument.size
    if isinstance(argument, types.BaseTuple):
        if len(argument) == 1:
            return lambda argument: leaf_count(argument[0])
        return lambda argument: leaf_count(argument[0]) + leaf_count(argument[1:])
    return lambda argument: 1


@overload(seeded, strict=False)
def _seeded(argument: Any, zero: Any, first: Any) -> Any:
    if not carries(argument):
        return lambda argument, zero, first: None
    if isinstance(argument, types.BaseTuple):
        if len(argument) == 1:
            return lambda argument, zero, first: (seeded(argument[0], zero, first),)
        return lambda argument, zero, first: (
            seeded(argument[0], zero, first),
            *seeded(argument[1:], zero, first - leaf_count(argument[0])),
        )
    if not isinstance(zero, Tangents):
        return _seeded_one(argument)
    start = 1 if zero.collapsed else 0
    if isinstance(argument, types.Array):

        def array(argument, zero, first):
            result = zeros_beside(argument, zero)
            flat = result.reshape(argument.size)
            for lane in range(max(-first, 0), min(count_of(zero) - start, argument.size - first)):
                flat[first + lane] = with_lane(zero, lane + start, 1.0)
            return result

        return array

    def number(argument, zero, first):
        if 0 <= -first < count_of(zero) - start:
            return with_lane(zero, start - first, 1.0)
        return zero

    return number


def _seeded_one(argument: types.Type) -> Any:
    if isinstance(argument, types.Array):

        def array(argument, zero, first):
            result = zeros_beside(argument, zero)
            if 0 <= first < argument.size:
                result.reshape(argument.size)[first] = 1.0
            return result

        return array

    def number(argument, zero, first):
        return zero + 1 if first == 0 else zero

    return number


@overload(shaped, strict=False)
def _shaped(argument: Any, numbers: Any, first: Any) -> Any:
    if not carries(argument):
        return lambda argument, numbers, first: None
    if isinstance(argument, types.BaseTuple):
        if len(argument) == 1:
            return lambda argument, numbers, first: (shaped(argument[0], numbers, first),)
        return lambda argument, numbers, first: (
            shaped(argument[0], numbers, first),
            *shaped(argument[1:], numbers, first + leaf_count(argument[0])),
        )
    if isinstance(argument, types.Array):
        return lambda argument, numbers, first: (
            numbers[first : first + argument.size].copy().reshape(argument.shape)
        )
    return lambda argument, numbers, first: numbers[first]


@overload(copied, strict=False)
def _copied(argument: Any) -> Any:
    if isinstance(argument, types.BaseTuple) and len(argument) > 0 and carries(argument):
        if len(argument) == 1:
            return lambda argument: (copied(argument[0]),)
        return lambda argument: (copied(argument[0]), *copied(argument[1:]))
    if isinstance(argument, types.Array):
        return lambda argument: argument.copy()
    return lambda argument: argument


constant(leaf_count, seeded)
same(copied, "*argument")
same(shaped, "&argument, *numbers, first")
