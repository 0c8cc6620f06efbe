"""Assignment of values to buffers: two values share one unless both are needed at the same time."""

from collections.abc import Sequence
from typing import NamedTuple


class Lifetime(NamedTuple):
    """A value of `size` elements, written at time `first` and read for the last time at time `last`."""

    size: int
    first: int
    last: int


def assign(lifetimes: Sequence[Lifetime]) -> tuple[list[int], list[int]]:
    """Return the slot of each value, and the size of each slot.

    Values are taken in the order they are written. Each goes to the free slot whose size is nearest, from
    above if one is large enough; a value that is still being read when another is written never shares its
    slot.
    """
    slots: list[int] = []
    free_from: list[int] = []
    chosen = [0] * len(lifetimes)
    for index in sorted(range(len(lifetimes)), key=lambda i: lifetimes[i].first):
        size, first, last = lifetimes[index]
        free = [slot for slot, time in enumerate(free_from) if time < first]
        if free:
            slot = min(free, key=lambda s: (slots[s] < size, abs(slots[s] - size)))
            slots[slot] = max(slots[slot], size)
            free_from[slot] = last
        else:
            slot = len(slots)
            slots.append(size)
            free_from.append(last)
        chosen[index] = slot
    return chosen, slots
