"""Second and third derivatives of activations, for derivatives of a network in its input: scalar rules in float32.

A rule maps z, a(z) and a'(z) to (a''(z), a'''(z)). At a kink it is what it is on the left, as a' is; the second
derivative of a rectifier is 0 everywhere, since what stands at its kink is no function. At plus and minus infinity both
are their limits.
"""

from collections.abc import Callable

import numpy as np
from numba.extending import register_jitable

from fgnumba.kernels.rules.elementary import exp, normal_cdf_pdf

_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)
_THREE, _FOUR = np.float32(3), np.float32(4)
# Beyond this, e^-z² / 2 and e^-|z| are 0 in float32, and a product of 0 and infinity would be NaN.
_FAR = np.float32(128)

Curvature = Callable[[np.float32, np.float32, np.float32], tuple[np.float32, np.float32]]


@register_jitable(forceinline=True)
def straight(z: np.float32, a: np.float32, slope: np.float32) -> tuple[np.float32, np.float32]:
    """Return 0 and 0, the derivatives of the slope of the identity and of rectifiers."""
    return _ZERO, _ZERO


@register_jitable(forceinline=True)
def tanh(z: np.float32, a: np.float32, slope: np.float32) -> tuple[np.float32, np.float32]:
    """Return a'' = -2 a a' and a''' = -2 (a'² + a a'')."""
    bend = -_TWO * a * slope
    return bend, -_TWO * (slope * slope + a * bend)


@register_jitable(forceinline=True)
def _logistic(z: np.float32) -> tuple[np.float32, np.float32, np.float32]:
    """Return q = σ(z) σ(-z), q' and q''. With s = σ(z) and c = σ(-z), q' = q (c - s) and q'' = q ((c - s)² - 2 q)."""
    e = exp(-abs(z))
    r = _ONE / (_ONE + e)
    q = e * r * r
    apart = (_ONE - e) * r
    apart = -apart if z > _ZERO else apart
    return q, q * apart, q * (apart * apart - _TWO * q)


@register_jitable(forceinline=True)
def sigmoid(z: np.float32, a: np.float32, slope: np.float32) -> tuple[np.float32, np.float32]:
    """Return a'' = q' and a''' = q'', where q = a' = σ(z) σ(-z)."""
    _, first, second = _logistic(z)
    return first, second


@register_jitable(forceinline=True)
def softplus(z: np.float32, a: np.float32, slope: np.float32) -> tuple[np.float32, np.float32]:
    """Return a'' = q and a''' = q', where q = σ(z) σ(-z)."""
    q, first, _ = _logistic(z)
    return q, first


@register_jitable(forceinline=True)
def _near(z: np.float32) -> np.float32:
    above = -_FAR if z < -_FAR else z
    return _FAR if above > _FAR else above


@register_jitable(forceinline=True)
def silu(z: np.float32, a: np.float32, slope: np.float32) -> tuple[np.float32, np.float32]:
    """Return a'' = 2 q + z q' and a''' = 3 q' + z q'', where q = σ(z) σ(-z)."""
    q, first, second = _logistic(z)
    z = _near(z)
    return _TWO * q + z * first, _THREE * first + z * second


@register_jitable(forceinline=True)
def gelu(z: np.float32, a: np.float32, slope: np.float32) -> tuple[np.float32, np.float32]:
    """Return a'' = φ (2 - z²) and a''' = φ z (z² - 4), where φ is the normal distribution's density."""
    z = _near(z)
    _, density = normal_cdf_pdf(z)
    square = z * z
    return density * (_TWO - square), density * z * (square - _FOUR)


@register_jitable(forceinline=True)
def elu(z: np.float32, a: np.float32, slope: np.float32) -> tuple[np.float32, np.float32]:
    """Return a'' = a''' = 0 if z > 0, else eᶻ, which is the slope there."""
    bend = _ZERO if z > _ZERO else slope
    return bend, bend


CURVATURES: dict[str, Curvature] = {
    "identity": straight,
    "relu": straight,
    "leaky_relu": straight,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "gelu": gelu,
    "silu": silu,
    "softplus": softplus,
    "elu": elu,
}
"""The rule of each activation that derivatives in the input may be taken through."""

OWN_CURVATURES: dict[str, Callable[[], Curvature]] = {}
"""What writes the rule of each activation that was made of a user's own function, by the keys of ``rules.OWN``."""


def has_curvature(name: str) -> bool:
    """Return whether derivatives in the input may be taken through an activation."""
    return name in CURVATURES or name in OWN_CURVATURES


def curvature_of(name: str) -> Curvature:
    """Return the rule of an activation of fgnumba's, or of a user's own that was made in this process."""
    return CURVATURES[name] if name in CURVATURES else OWN_CURVATURES[name]()
