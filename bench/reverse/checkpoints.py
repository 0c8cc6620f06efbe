"""Checkpointing: which outputs of a chain of L links are kept for the reverse pass, and which are computed again.

A link is a run of steps that one value enters and one leaves, such as a layer of a plain network or a block of a
residual one; it has s steps. With room for c outputs beside the chain's input, a chain of at most c + 1 steps keeps
what it needs and is computed once, and so is a single link. A longer one is divided: its first k links are computed,
and of them only the last output is kept; the rest is reversed with room for c - 1 outputs; then the first k links are
computed again, and reversed with room for c. In all,

    R(L, c) = L                                              s L ≤ c + 1 or L = 1
    R(L, c) = min over k of  k + R(L - k, c - 1) + R(k, c)   otherwise

links are computed. With s = 1 and c = 2 √L - 2 these are at most 2 L, one more forward pass (T. Chen et al., arXiv
1604.06174). With c = 1 memory does not depend on L, and R = L (L + 1) / 2 - 1.

Source: A. Griewank, A. Walther, ACM Transactions on Mathematical Software 26 (1), 2000, algorithm 799, which divides a
chain in the same way. There every step is computed once more before it is reversed; here a run that fits is not.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IMPOSSIBLE = np.iinfo(np.int64).max // 4


def square_root(steps: int) -> int:
    """Return the room c with which about √n runs of √n of n steps are computed twice: 2 √n - 2, at least 1."""
    return max(1, round(2 * math.sqrt(steps)) - 2)


class Division(NamedTuple):
    """How a chain is divided so that the fewest links are computed.

    Parameters
    ----------
    links : int
        R(L, c), the number of links that are computed for the reverse pass.
    first : int
        The number of links k before the output that is kept first; 0 if the chain is not divided.
    """

    links: int
    first: int


def division(length: int, room: int, size: int = 1) -> Division:
    """Return how a chain of L links is divided, with room for c outputs.

    Parameters
    ----------
    length : int
        Number of links L, at least 1.
    room : int
        Number of outputs c that are kept at a time, at least 1; 0 for a single link.
    size : int
        Number of steps s of a link. Default: 1.
    """
    if length == 1 or length * size <= room + 1:
        return Division(length, 0)
    links, first = _tables(length, room, size)
    return Division(int(links[room, length]), int(first[room, length]))


@lru_cache(maxsize=8)
def _tables(length: int, room: int, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return R(l, c) and the best k, at index (c, l), for all chains up to a length and all rooms up to one."""
    links = np.full((room + 1, length + 1), IMPOSSIBLE)
    first = np.zeros_like(links)
    links[0, 1] = 1
    for c in range(1, room + 1):
        for whole in range(1, length + 1):
            if whole == 1 or whole * size <= c + 1:
                links[c, whole] = whole
                continue
            k = np.arange(1, whole)
            total = k + links[c - 1, whole - k] + links[c, k]
            best = int(total.argmin())
            links[c, whole], first[c, whole] = total[best], k[best]
    return links, first
