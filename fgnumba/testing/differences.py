"""Derivatives from differences of values: in float64 of a reference, in float32 of the layer itself."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fgnumba.testing.comparison import largest, require
from fgnumba.testing.given import Array, Point, Tangent

STEP, OWN_STEP = 1e-6, 2.0**-5
"""Steps of differences in float64 and in float32. In float64 the rounding is some 1e-10 of a value. In float32, two
steps are extrapolated: what rounds is some 90 roundings of a value, 5e-6, and what is cut off is of fourth order."""
OWN_TOLERANCE = 3e-3
"""Of the largest value and tangent: what differences of float32 values may be wrong by."""
MOST_UNDECIDED = 1 / 3
"""Share of the entries that may be left out, since a kink lies between the points whose values are compared."""


def along(
    function: Callable[[Point], npt.ArrayLike], point: Point, tangent: Tangent
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return the derivative of a float64 function along a direction, and where a kink makes it undecided.

    Parameters
    ----------
    function : callable
        Function of a point in float64.
    point : Point
        Where the derivative is taken.
    tangent : Tangent
        Along which direction.

    Returns
    -------
    ndarray
        The central difference.
    ndarray of bool
        Entries whose differences to either side disagree: these are not compared.
    """
    wide = point.wide()
    here = np.asarray(function(wide), np.float64)
    after = np.asarray(function(wide.moved(tangent, STEP)), np.float64)
    before = np.asarray(function(wide.moved(tangent, -STEP)), np.float64)
    forward, backward = (after - here) / STEP, (here - before) / STEP
    central = (after - before) / (2 * STEP)
    return central, _undecided(forward, backward, 1e-3 * (largest(central) + largest(here)))


def along_own(
    function: Callable[[Point], Array], point: Point, tangent: Tangent
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return the derivative of a float32 function along a direction, and where a kink makes it undecided.

    Parameters
    ----------
    function : callable
        Function of a point in float32.
    point : Point
        Where the derivative is taken.
    tangent : Tangent
        Along which direction.

    Returns
    -------
    ndarray
        Central differences with two steps, extrapolated to none (L. F. Richardson).
    ndarray of bool
        Entries for which two steps, or the two sides, disagree: these are not compared.
    """
    here = np.asarray(function(point), np.float64)
    after, before = (
        [
            np.asarray(function(point.moved(tangent, sign * step)), np.float64)
            for step in (OWN_STEP, OWN_STEP / 2)
        ]
        for sign in (1, -1)
    )
    coarse, fine = (after[0] - before[0]) / (2 * OWN_STEP), (after[1] - before[1]) / OWN_STEP
    # To either side, of second order: they disagree at a kink even where it lies in the middle.
    forward = (4 * after[1] - after[0] - 3 * here) / OWN_STEP
    backward = (3 * here - 4 * before[1] + before[0]) / OWN_STEP
    apart = OWN_TOLERANCE * (largest(fine) + largest(here))
    return (4 * fine - coarse) / 3, _undecided(coarse, fine, apart) | _undecided(forward, backward, 4 * apart)


def _undecided(one: Array, other: Array, apart: float) -> npt.NDArray[np.bool_]:
    undecided: npt.NDArray[np.bool_] = np.abs(one - other) > apart
    share = float(undecided.mean()) if undecided.size else 0.0
    require(
        share <= MOST_UNDECIDED,
        f"the function has no derivative at {share:.0%} of its outputs: differences of its values to both sides "
        "disagree; give `parameters` or `scale` at which it is smooth",
    )
    return undecided
