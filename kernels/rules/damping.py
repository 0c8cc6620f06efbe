"""The damping of Gauss-Newton steps, adapted to how well a step does on examples that it has not seen.

A step of length η along -m ends where the loss of new examples has the slope s = -η ∇f·m along the step and the
curvature κ = η² mᵀ G m ≥ 0, so that their quadratic along it has its minimum at the fraction 1 - s/κ of the step. Noise
makes the fraction small: on average, a step no longer lowers the loss where it is 1/2.
"""

import numpy as np

from fgnumba.kernels.machine.scalar import scalar

_ZERO, _ONE = np.float64(0), np.float64(1)
MARGIN, MOST, LEAST_SHARE = np.float64(0.5), np.float64(0.5), np.float64(0.25)


@scalar
def adapted(
    damping: np.float64, slope: np.float64, curvature: np.float64, share: np.float64, rate: np.float64
) -> np.float64:
    """Return λ / (1 + r a), with a from -1 to 1/2: below 0 where steps are too long, above where they are too short.

    With x = -s/κ share, a step is too long where it ends beyond the minimum, x < 0: a = x. It is too short where it
    ends before two thirds of the way, x > 1/2: a = x - 1/2. A learning rate that falls is meant to make steps short,
    and what is then seen of their end is noise; so `share` is the rate over the highest one so far, and below a quarter
    λ stays.
    """
    if not curvature > _ZERO or share < LEAST_SHARE:
        return damping
    further = -slope / curvature * share
    if further < _ZERO:
        return damping / (_ONE + rate * (further if further > -_ONE else -_ONE))
    short = further - MARGIN
    if short > _ZERO:
        return damping / (_ONE + rate * (short if short < MOST else MOST))
    return damping


@scalar
def mean_with(mean: np.float64, newest: np.float64, share: np.float64) -> np.float64:
    """Return a running mean to which the newest number contributes `share`."""
    return mean + share * (newest - mean)
