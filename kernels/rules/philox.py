"""The counter-based random number generator Philox4x32-10, and which counters each entry of a direction is drawn from.

Source: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011,
doi 10.1145/2063384.2063405; known answers from the authors' Random123 library.

An entry of a direction is a pure function of (seed, step, direction, parameter, row, column). The generator's key is
the 64-bit seed. With column = 32 panel + lane, its counter is

    signs     (row >> 2, purpose << 24 | panel,           direction << 12 | parameter, step)
    Gaussian  (row >> 2, purpose << 24 | panel << 4 | j,  direction << 12 | parameter, step),  j = 0 to 15

Directions may also come in families of 32 whose signs differ by Walsh functions of the lane alone: direction 32 i + b
has the words of direction 32 i, with bit ``lane`` flipped if b & lane has an odd number of ones. Kernels recognise such
a direction by the bit ``ORTHOGONAL``, which is added to the direction's index and is no part of the counter.

Signs: word ``row & 3`` holds the 32 signs of a panel's row, and bit ``lane`` is set if the entry is -1.

Gaussian: four rows of a panel, 128 entries, come from 16 counters of four words. Entry e = 32 (row & 3) + lane
belongs to word ``w`` of counter ``j`` with 16 w + j = e & 63. It is the first of the word's pair of normal numbers
(``directions.normal``) if e < 64, else the second.

A vector of n entries is drawn like a matrix of 32 columns. Signs of the purpose ``SIGN`` have a number in place of
``direction << 12 | parameter``.
"""

from typing import Any

import numpy as np

from fgnumba.kernels.emit.vector import PANEL

# Purposes. They are part of the counter, so that the same counter never serves two uses.
ENTRY, LEFT, RIGHT, DROPPED, NOISE, ATTENDED, SIGN = 1, 2, 3, 4, 5, 6, 7

MAX_DIRECTIONS = 1 << 20
ORTHOGONAL = 1 << 20
FAMILY = 32
MAX_PARAMETERS = 1 << 12
MAX_STEP = (1 << 32) - 1
MAX_SEED = (1 << 64) - 1
MAX_COLUMNS = (1 << 20) * PANEL

# The seed and the step of the present draw, in one place that every kernel of a plan reads.
STREAM = np.dtype([("step", np.int64), ("key_low", np.int64), ("key_high", np.int64)])

PURPOSE_SHIFT = 24
DIRECTION_SHIFT = 12
GAUSSIAN_PANEL_SHIFT = 4


def set_stream(stream: np.ndarray[Any, Any], seed: int, step: int) -> None:
    """Write the seed and the step of the next draws.

    Parameters
    ----------
    stream : array, (1,) ``STREAM``
        Written: the record that kernels read.
    seed : int
        The seed, at most ``MAX_SEED``.
    step : int
        The step, at most ``MAX_STEP``.
    """
    seed, step = int(seed), int(step)
    stream["step"], stream["key_low"], stream["key_high"] = step, seed & 0xFFFFFFFF, seed >> 32
