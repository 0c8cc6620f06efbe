"""The damping of Gauss-Newton steps, adapted to how well a step does on examples that it has not seen.

A step of length η along -m ends where the loss of new examples has the slope s = -η ∇f·m along the step and the
curvature κ = η² mᵀ G m ≥ 0, so that their quadratic along it has its minimum at the fraction 1 - s/κ of the step. Noise
makes the fraction small: on average, a step no longer lowers the loss where it is 1/2. A learning rate that falls is
meant to make steps shorter than that, so κ is counted as if the rate were still the highest one: κ = η η₀ mᵀ G m.
"""

import numpy as np

from fgnumba.kernels.machine.scalar import scalar

_ZERO, _ONE = np.float64(0), np.float64(1)
MARGIN, MOST = np.float64(0.5), np.float64(0.5)


@scalar
def adapted(damping: np.float64, slope: np.float64, curvature: np.float64, rate: np.float64) -> np.float64:
    """Return λ / (1 + r clip(-s/κ - 1/2, -1, 1/2)): λ stays where steps end at two thirds of the way to the minimum.

    Where the steps are longer than that, λ rises; where they are shorter, it falls, but half as fast.
    """
    if not curvature > _ZERO:
        return damping
    away = -slope / curvature - MARGIN
    away = MOST if away > MOST else (-_ONE if away < -_ONE else away)
    return damping / (_ONE + rate * away)


@scalar
def mean_with(mean: np.float64, newest: np.float64, share: np.float64) -> np.float64:
    """Return a running mean to which the newest number contributes `share`."""
    return mean + share * (newest - mean)
