"""Error signals of attention's queries, keys and values, estimated from noise on them."""

from typing import NamedTuple


class Ranges(NamedTuple):
    """How columns are divided: which columns of the noise moved which columns of attention's output.

    Parameters
    ----------
    groups : int
        Number of ranges of keys, and of values.
    heads : int
        Number of ranges of queries that read the same keys.
    queries, keys : int
        Number of columns of such a range of queries, and of a range of keys or of values.
    """

    groups: int
    heads: int
    queries: int
    keys: int


def ranges(heads: int, key_heads: int, size: int, by_head: bool) -> Ranges:
    """Return how columns are divided, head by head or not at all."""
    if by_head:
        return Ranges(key_heads, heads // key_heads, size, size)
    return Ranges(1, 1, heads * size, key_heads * size)
