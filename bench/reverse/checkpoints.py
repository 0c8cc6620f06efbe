"""Checkpointing: which outputs of a chain of L steps are kept for the reverse pass, and which are computed again.

With room for c outputs beside the chain's input, a chain of at most c + 1 steps keeps what it needs and is computed
once. A longer one is divided: its first k steps are computed, and of them only the last output is kept; the rest is
reversed with room for c - 1 outputs; then the first k steps are computed again, and reversed with room for c. In all,

    R(L, c) = L                                              L ≤ c + 1
    R(L, c) = min over k of  k + R(L - k, c - 1) + R(k, c)   otherwise

steps are computed. With c = 2 √L - 2 these are at most 2 L, one more forward pass (T. Chen et al., arXiv 1604.06174).
With c = 1 memory does not depend on L, and R = L (L + 1) / 2 - 1.

Source: A. Griewank, A. Walther, ACM Transactions on Mathematical Software 26 (1), 2000, algorithm 799, which divides a
chain in the same way. There every step is computed once more before it is reversed; here a run that fits is not.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IMPOSSIBLE = np.iinfo(np.int64).max // 4


def square_root(length: int) -> int:
    """Return the room c with which about √L runs of √L steps are computed twice: 2 √L - 2, at least 1."""
    return max(1, round(2 * math.sqrt(length)) - 2)


class Division(NamedTuple):
    """How a chain is divided so that the fewest steps are computed.

    Parameters
    ----------
    steps : int
        R(L, c), the number of steps that are computed for the reverse pass.
    first : int
        The number of steps k before the output that is kept first; 0 if all are kept.
    """

    steps: int
    first: int


def division(length: int, room: int) -> Division:
    """Return how a chain of L steps is divided, with room for c outputs.

    Parameters
    ----------
    length : int
        Number of steps L, at least 1.
    room : int
        Number of outputs c that are kept at a time, at least 1.
    """
    if length <= room + 1:
        return Division(length, 0)
    steps, first = _tables(length, room)
    return Division(int(steps[room, length]), int(first[room, length]))


@lru_cache(maxsize=8)
def _tables(length: int, room: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return R(l, c) and the best k, at index (c, l), for all chains up to a length and all rooms up to one."""
    steps = np.full((room + 1, length + 1), IMPOSSIBLE)
    first = np.zeros_like(steps)
    steps[0, 1] = 1
    for c in range(1, room + 1):
        for whole in range(1, length + 1):
            if whole <= c + 1:
                steps[c, whole] = whole
                continue
            k = np.arange(1, whole)
            total = k + steps[c - 1, whole - k] + steps[c, k]
            best = int(total.argmin())
            steps[c, whole], first[c, whole] = total[best], k[best]
    return steps, first
