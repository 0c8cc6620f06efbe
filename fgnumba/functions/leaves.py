"""The numbers of an argument in a row: unit tangents for some of them, and an argument of the same structure again.

An argument is a number, an array, or a tuple of arguments; integers and what else carries nothing have no numbers here.
All functions are for compiled code.
"""

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from fgnumba.functions.carriers import carries, holds_arrays
from fgnumba.functions.generated import generated
from fgnumba.functions.registry import constant, same
from fgnumba.functions.rules.lanes import count_of
from fgnumba.functions.tangents import Tangents, in_any_order, with_lane
from fgnumba.functions.zeros import is_dense, zeros_beside


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


def copied_where(argument: Any, condition: bool) -> Any:
    """Return an argument whose arrays are copies if a condition holds, else itself."""
    raise NotImplementedError("it is for code that Numba compiles")


def _defined(head: str, value: str, **names: Any) -> Any:
    return generated(head[: head.index("(")], [f"def {head}:", f"    return {value}"], **_KNOWN, **names)


def _member_wise(head: str, kind: types.BaseTuple, member: str, named: bool = True) -> Any:
    """Return the function that makes a tuple of the same kind.

    Parameters
    ----------
    head : str
        Its name and arguments.
    kind : BaseTuple
        The type of the tuple.
    member : str
        A member as an expression, with ``{0}`` for its index and ``{1}`` for the count of numbers before it.
    named : bool
        Whether the value for a named tuple is one, too.
    """
    members = []
    for index in range(len(kind)):
        before = " + ".join(f"leaf_count(argument[{other}])" for other in range(index)) or "0"
        members.append(member.format(index, before))
    if named and isinstance(kind, types.BaseNamedTuple):
        return _defined(head, f"make({', '.join(members)})", make=kind.instance_class)
    return _defined(head, f"({', '.join(members)},)")


@overload(leaf_count, strict=False)
def _leaf_count(argument: Any) -> Any:
    if not carries(argument):
        return lambda argument: 0
    if isinstance(argument, types.Array):
        return lambda argument: argument.size
    if isinstance(argument, types.BaseTuple):
        terms = " + ".join(f"leaf_count(argument[{index}])" for index in range(len(argument)))
        return _defined("members(argument)", terms)
    return lambda argument: 1


@overload(seeded, strict=False)
def _seeded(argument: Any, zero: Any, first: Any) -> Any:
    if not carries(argument):
        return lambda argument, zero, first: None
    if isinstance(argument, types.BaseTuple):
        member = "seeded(argument[{0}], zero, first - ({1}))"
        return _member_wise("members(argument, zero, first)", argument, member, named=False)
    if not isinstance(zero, Tangents):
        return _seeded_one(argument)
    start = 1 if zero.collapsed else 0
    if isinstance(argument, types.Array):
        if argument.layout == "C":

            def contiguous(argument, zero, first):
                result = zeros_beside(argument, zero)
                flat = result.reshape(argument.size)
                for lane in range(max(-first, 0), min(count_of(zero) - start, argument.size - first)):
                    flat[first + lane] = with_lane(zero, lane + start, 1.0)
                return result

            return contiguous

        def array(argument, zero, first):
            result = zeros_beside(argument, zero)
            lane = -first
            for place in np.ndindex(argument.shape):
                if 0 <= lane < count_of(zero) - start:
                    result[place] = with_lane(zero, lane + start, 1.0)
                lane += 1
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
            for index, place in enumerate(np.ndindex(argument.shape)):
                if index == first:
                    result[place] = 1.0
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
        member = "shaped(argument[{0}], numbers, first + {1})"
        return _member_wise("members(argument, numbers, first)", argument, member)
    if isinstance(argument, types.Array):
        return lambda argument, numbers, first: (
            numbers[first : first + argument.size].copy().reshape(argument.shape)
        )
    return lambda argument, numbers, first: numbers[first]


@overload(copied, strict=False)
def _copied(argument: Any) -> Any:
    if isinstance(argument, types.BaseTuple) and holds_arrays(argument):
        return _member_wise("members(argument)", argument, "copied(argument[{0}])")
    if isinstance(argument, types.Array):
        if argument.layout == "A":
            dtype = argument.dtype

            def spread(argument):
                if is_dense(argument):
                    return in_any_order(argument.copy())
                result = np.empty((*argument.shape, 2), dtype)[..., 0]
                result[...] = argument
                return result

            return spread
        return lambda argument: argument.copy()
    return lambda argument: argument


@overload(copied_where, strict=False)
def _copied_where(argument: Any, condition: Any) -> Any:
    if not holds_arrays(argument):
        return lambda argument, condition: argument
    return lambda argument, condition: copied(argument) if condition else argument


_KNOWN = {"leaf_count": leaf_count, "seeded": seeded, "shaped": shaped, "copied": copied}
constant(leaf_count, seeded)
same(copied, "*argument")
same(copied_where, "*argument, condition", views=True)
same(shaped, "&argument, *numbers, first")
