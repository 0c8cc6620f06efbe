"""The damping of Gauss-Newton steps, adapted to how well a step does on examples that it has not seen.

A step of length η along -m ends where the loss of new examples has the slope s = -η ∇f·m along the step and the
curvature κ = η² mᵀ G m ≥ 0, so that their quadratic along it has its minimum at the fraction 1 - s/κ of the step. Noise
makes the fraction small: on average, a step no longer lowers the loss where it is 1/2.
"""

import numpy as np

from fgnumba.kernels.machine.scalar import scalar

_ZERO, _ONE = np.float64(0), np.float64(1)
MARGIN, MOST = np.float64(0.5), np.float64(0.5)


@scalar
def adapted(
    damping: np.float64, slope: np.float64, curvature: np.float64, share: np.float64, rate: np.float64
) -> np.float64:
    """Return λ / (1 + r a), with a from -1 to 1/2: above 0 where steps are too short, below where they are too long.

    A step is too long where it ends beyond two thirds of the way to the minimum: a = -s/κ - 1/2 is below 0. A learning
    rate that falls is meant to make steps shorter than that. So a step is only too short if it would end before that
    point with the highest rate so far, of which its rate is `share`: a = -s/κ share - 1/2 is above 0.
    """
    if not curvature > _ZERO:
        return damping
    further = -slope / curvature
    long, short = further - MARGIN, further * share - MARGIN
    if long < _ZERO:
        return damping / (_ONE + rate * (long if long > -_ONE else -_ONE))
    if short > _ZERO:
        return damping / (_ONE + rate * (short if short < MOST else MOST))
    return damping


@scalar
def mean_with(mean: np.float64, newest: np.float64, share: np.float64) -> np.float64:
    """Return a running mean to which the newest number contributes `share`."""
    return mean + share * (newest - mean)
