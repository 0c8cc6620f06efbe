"""Tangents that Python gives: arrays in memory of their own, in the order of their values."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import typeof


def tuple_like(value: tuple[Any, ...], members: list[Any]) -> Any:
    """Return members as a tuple of the same kind, a named tuple among them."""
    make = getattr(type(value), "_make", tuple)
    return make(members)


def apart(values: list[Any], tangents: list[Any]) -> list[Any]:
    """Return tangents that share no memory with a value, nor with the tangent of other memory; some are copies.

    The function may write to them: in ``fg.jvp(f, (x,), (x,))``, to x and its tangent.
    """
    pairs = [
        pair for value, tangent in zip(values, tangents, strict=True) for pair in _arrays(value, tangent)
    ]
    shared: dict[int, np.ndarray] = {}
    for index, (value, tangent) in enumerate(pairs):
        if any(np.may_share_memory(tangent, other) for other, _ in pairs) or any(
            np.may_share_memory(tangent, other) and not np.may_share_memory(value, beside)
            for beside, other in pairs[:index]
        ):
            shared[id(tangent)] = tangent
    return [_copied(tangent, shared) for tangent in tangents] if shared else tangents


def _arrays(value: Any, tangent: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if isinstance(tangent, tuple):
        for pair in zip(value, tangent, strict=True):
            yield from _arrays(*pair)
    elif isinstance(tangent, np.ndarray):
        yield value, tangent


def _copied(tangent: Any, which: dict[int, np.ndarray]) -> Any:
    if isinstance(tangent, tuple):
        return tuple_like(tangent, [_copied(member, which) for member in tangent])
    return in_order_of(tangent, tangent.copy()) if id(tangent) in which else tangent


def in_order_of(value: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Return an array in the order of a value: where that is copied, as by ``ravel``, its tangent must be, too."""
    layout = typeof(value).layout
    if typeof(array).layout == layout and (array.flags.writeable or not value.flags.writeable):
        return array
    if layout != "A":
        return np.array(array, order=layout)
    spread = np.empty((*array.shape, 2), array.dtype)
    spread[..., 0] = array
    return spread[..., 0]
