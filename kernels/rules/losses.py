"""Losses of one output and its target: the value, and its derivative in the output, in float64.

A loss that is a mean over outputs is made of such a rule (``kernels.shared.pointwise_loss``). A rule takes the output z
and the target y, float32, and one number of the loss's own, float64, and is compiled for every device. An output that
is not finite gives a value that is not finite. A rule called a slope gives the first two derivatives of its loss.
"""

from collections.abc import Callable

import numpy as np

from fgnumba.kernels.machine.scalar import scalar
from fgnumba.kernels.rules.elementary import exp, log1p_unit

Rule = Callable[[np.float32, np.float32, np.float64], tuple[np.float64, np.float64]]

_ZERO_32, _ONE_32 = np.float32(0), np.float32(1)
_ZERO, _HALF, _ONE, _TWO = np.float64(0), np.float64(0.5), np.float64(1), np.float64(2)
_NAN = np.float64(np.nan)


@scalar
def binary_cross_entropy(z: np.float32, y: np.float32, unused: np.float64) -> tuple[np.float64, np.float64]:
    """Return softplus(z) - y z and sigmoid(z) - y; NaN unless y is from 0 to 1.

    With e = e**-|z| and the share c of the label that z speaks against (1 - y where z is at least 0, else y),

        softplus(z) - y z  = c |z| + log(1 + e)
        |sigmoid(z) - y|   = |c - (1 - c) e| / (1 + e)

    so that nothing cancels for labels of 0 and 1, and no finite logit overflows.
    """
    size = abs(z)
    e = exp(-size)
    label = np.float64(y) if y >= _ZERO_32 and y <= _ONE_32 else _NAN
    positive = z >= _ZERO_32
    against = _ONE - label if positive else label
    agreeing = label if positive else _ONE - label
    share = np.float64(_ONE_32 / (_ONE_32 + e))
    away = share * (against - agreeing * np.float64(e))
    value = np.float64(size) * against + np.float64(log1p_unit(e))
    return value, away if positive else -away


@scalar
def huber(z: np.float32, y: np.float32, delta: np.float64) -> tuple[np.float64, np.float64]:
    """Return d**2 / 2 and d, d = z - y, where |d| is at most `delta`, and beyond it their linear continuation.

    The continuation is ``delta (|d| - delta / 2)``, whose derivative is ``delta`` with the sign of d.
    Source: P. J. Huber, Robust Estimation of a Location Parameter, 1964.
    """
    d = np.float64(z) - np.float64(y)
    size = abs(d)
    beyond = delta if d > _ZERO else (-delta if d < _ZERO else d)
    inside = size <= delta
    value = _HALF * d * d if inside else delta * (size - _HALF * delta)
    return value, d if inside else beyond


@scalar
def binary_slope(z: np.float32, y: np.float32, unused: np.float64) -> tuple[np.float64, np.float64]:
    """Return sigmoid(z) - y, and its derivative e / (1 + e)² with e = e**-|z|."""
    e = np.float64(exp(-abs(z)))
    share = _ONE / (_ONE + e)
    return (share if z >= _ZERO_32 else e * share) - np.float64(y), e * share * share


@scalar
def squared_slope(z: np.float32, y: np.float32, unused: np.float64) -> tuple[np.float64, np.float64]:
    """Return 2 (z - y), the derivative of (z - y)², and its derivative 2."""
    return _TWO * (np.float64(z) - np.float64(y)), _TWO


@scalar
def huber_slope(z: np.float32, y: np.float32, delta: np.float64) -> tuple[np.float64, np.float64]:
    """Return the derivative of Huber's loss, and its derivative: 1 where |z - y| is at most `delta`, and 0 beyond."""
    slope = huber(z, y, delta)[1]
    return slope, _ONE if abs(np.float64(z) - np.float64(y)) <= delta else _ZERO


SLOPES: dict[str, Rule] = {"binary": binary_slope, "squared": squared_slope, "huber": huber_slope}
"""The slopes by the names that ``ops.output_curvature`` has for their losses."""
