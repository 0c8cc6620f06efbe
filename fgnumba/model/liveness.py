"""Assign values to buffers by liveness: two values may share a buffer unless both are needed at the same time."""

from collections.abc import Sequence
from typing import NamedTuple

SLACK = 32
"""float32 at the end of a buffer: a tile of channels reads whole vectors, past the last pixel."""


class Lifetime(NamedTuple):
    """The lifetime of a value: from the step that writes it to the last step that reads it.

    Parameters
    ----------
    size : int
        The number of elements of the value.
    first : int
        The number of the step that writes it.
    last : int
        The number of the last step that reads it.
    """

    size: int
    first: int
    last: int


def assign(lifetimes: Sequence[Lifetime]) -> tuple[list[int], list[int]]:
    """Return the buffer of each value, and the size of each buffer. Several values may use a buffer in turn.

    Values are taken in the order in which they are written. Each gets the free buffer whose size is nearest to its own:
    the smallest that is large enough, or else the largest, which then grows. A value that is still read while another
    is written never shares its buffer.

    Parameters
    ----------
    lifetimes : sequence of Lifetime
        The values.

    Returns
    -------
    buffers : list of int
        The number of the buffer of each value.
    sizes : list of int
        The number of elements of each buffer.
    """
    sizes: list[int] = []
    free_from: list[int] = []
    buffer_of = [0] * len(lifetimes)
    for index in sorted(range(len(lifetimes)), key=lambda i: lifetimes[i].first):
        size, first, last = lifetimes[index]
        free = [buffer for buffer, time in enumerate(free_from) if time < first]
        if free:
            buffer = min(free, key=lambda b: (sizes[b] < size, abs(sizes[b] - size)))
            sizes[buffer] = max(sizes[buffer], size)
            free_from[buffer] = last
        else:
            buffer = len(sizes)
            sizes.append(size)
            free_from.append(last)
        buffer_of[index] = buffer
    return buffer_of, sizes
