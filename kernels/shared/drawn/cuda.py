"""Drawn directions of one parameter on a GPU, for kernels that need nothing else of the parameter; see ``cpu``."""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.primitives import Floats, divide, float_of, shared_store_u32
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.rules.directions.cuda import Words, pick, sign_words, words
from fgnumba.kernels.rules.directions.normal import normal_pair
from fgnumba.kernels.rules.philox import (
    DIRECTION_SHIFT,
    ENTRY,
    GAUSSIAN_PANEL_SHIFT,
    LEFT,
    PURPOSE_SHIFT,
    RIGHT,
)
from fgnumba.kernels.shared.drawn.cpu import Drawn

PAIRS = PANEL // 2
"""Number of threads that draw the Gaussians of four rows of a panel. Each draws eight: lanes j and PANEL / 2 + j."""

_GAUSSIAN_CELL = ENTRY << PURPOSE_SHIFT
_ALL, _BIT = np.uint32(0xFFFFFFFF), np.uint32(1)


def arguments(directions: Drawn) -> dict[str, Any]:
    """Return the arguments of a kernel that say which directions these are."""
    return {
        "count": directions.count,
        "first": directions.first,
        "parameter": directions.parameter,
        "stream": directions.stream,
    }


def layout(directions: Drawn) -> dict[str, int]:
    """Return the arguments of a kernel that say how a parameter's panels are cut into rows, and where padding lies.

    Parameters
    ----------
    directions : Drawn
        The directions.

    Returns
    -------
    dict
        ``by_row`` is 1 for a vector, whose rows are panels of their own. The number of a row's lanes without padding is
        :func:`lanes` of the row's number where ``by_row`` is 1, else of the panel's.
    """
    across = directions.rows if directions.vector else directions.panels
    return {
        "panels": directions.panels,
        "rows": directions.rows,
        "by_row": int(directions.vector),
        "width": directions.columns // directions.groups,
        "period": across // directions.groups,
    }


@device_function
def counter(first: int, t: int, parameter: int) -> int:
    """Return the third word of the counters of direction `t`."""
    return ((first + t) << DIRECTION_SHIFT) + parameter


@device_function
def lanes(place: int, width: int, period: int) -> int:
    """Return the number of lanes of a row that are no padding.

    Parameters
    ----------
    place : int
        Number of the row, or of its panel.
    width : int
        Number of entries of each `period` rows (or panels); the lanes after them are padding.
    period : int
        Number of rows (or panels) that belong together: those of a group of columns.

    Returns
    -------
    int
        Number of lanes.
    """
    _, across = divide(place, period)
    left = width - across * PANEL
    return left if left < PANEL else PANEL


@device_function
def outer_words(stream: int, quad: int, panel: int, c2: int) -> Words:
    """Return the signs of rows 4 quad to 4 quad + 3 of a rank-1 direction, as ``sign_words`` does for others."""
    left = pick(sign_words(stream, quad >> 5, 0, LEFT, c2), (quad >> 3) & 3)
    right = pick(sign_words(stream, panel >> 2, 0, RIGHT, c2), panel & 3)
    bits = np.uint32(left >> np.uint32(4 * (quad & 7)))
    return (
        np.uint32(right ^ (_ALL if bits & _BIT else np.uint32(0))),
        np.uint32(right ^ (_ALL if np.uint32(bits >> np.uint32(1)) & _BIT else np.uint32(0))),
        np.uint32(right ^ (_ALL if np.uint32(bits >> np.uint32(2)) & _BIT else np.uint32(0))),
        np.uint32(right ^ (_ALL if np.uint32(bits >> np.uint32(3)) & _BIT else np.uint32(0))),
    )


@device_function
def store_words(at: int, four: Words) -> None:
    """Write four words, the signs of four rows, to shared memory."""
    shared_store_u32(at, four[0])
    shared_store_u32(at + 4, four[1])
    shared_store_u32(at + 8, four[2])
    shared_store_u32(at + 12, four[3])


@device_function
def gaussian_quad(stream: int, quad: int, panel: int, j: int, c2: int) -> Floats:
    """Return eight entries of a Gaussian direction: lane j of rows 4 quad to 4 quad + 3, then lane 16 + j of them."""
    four = words(stream, quad, _GAUSSIAN_CELL + (panel << GAUSSIAN_PANEL_SHIFT) + j, c2)
    a, b, c, d = normal_pair(four[0]), normal_pair(four[1]), normal_pair(four[2]), normal_pair(four[3])
    return (
        float_of(a[0]),
        float_of(b[0]),
        float_of(c[0]),
        float_of(d[0]),
        float_of(a[1]),
        float_of(b[1]),
        float_of(c[1]),
        float_of(d[1]),
    )
