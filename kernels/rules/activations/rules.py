"""Activations: one scalar rule each, which maps z to (a(z), a'(z)), both float32.

The epilogue of a dual pass needs both, and they share most of their work. Each rule is written once, with the functions
of :mod:`fgnumba.kernels.rules.elementary`. It runs as plain Python on ``np.float32`` scalars, and is compiled to vector
code for the CPU and to CUDA.

For every finite z, value and derivative are finite. At plus and minus infinity they are their limits. Their relative
error is at most 1e-6 while the exponential in them is a normal float32 (|z| < 13 for gelu, 43 for tanh, 87 for the
others). Beyond, their error is at most 256 times the smallest subnormal. Near a zero of a derivative (gelu's at
-0.7518, silu's at -1.2785) the derivative's error is absolute, 1e-7. The value at NaN is NaN; a derivative that is
piecewise constant stays a number there. The sign of a zero is not kept.
"""

from collections.abc import Callable

import numpy as np

from fgnumba.kernels.machine.scalar import scalar
from fgnumba.kernels.rules.elementary import exp, exp_expm1, log1p_unit, normal_cdf_pdf, tanh_and_slope

_ZERO = np.float32(0)
_ONE = np.float32(1)
_MOST, _LEAST = np.float32(np.finfo(np.float32).max), np.float32(np.finfo(np.float32).min)
_LEAKY_SLOPE = np.float32(0.01)

Rule = Callable[[np.float32], tuple[np.float32, np.float32]]


@scalar
def identity(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = z and a' = 1."""
    return z, _ONE


@scalar
def relu(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = max(z, 0), and a' = 1 if z > 0, else 0. At z = 0 this is the least of the subgradients.

    Notes
    -----
    Source: V. Nair, G. E. Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, ICML 2010.
    """
    # The condition is z <= 0, not z > 0, so that NaN stays NaN.
    return _ZERO if z <= _ZERO else z, _ONE if z > _ZERO else _ZERO


@scalar
def leaky_relu(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = z and a' = 1 if z > 0, else a = z / 100 and a' = 1 / 100.

    Notes
    -----
    Source: A. L. Maas, A. Y. Hannun, A. Y. Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models, ICML
    2013.
    """
    slope = _ONE if z > _ZERO else _LEAKY_SLOPE
    return slope * z, slope


@scalar
def tanh(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = tanh z and a' = 1 - a², the latter computed without cancellation."""
    return tanh_and_slope(z)


@scalar
def sigmoid(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = σ(z) = 1 / (1 + e⁻ᶻ) and a' = σ(z) σ(-z).

    With e = e^-|z| and r = 1 / (1 + e), they follow from σ(|z|) = r and σ(-|z|) = e r.
    """
    e = exp(-abs(z))
    r = _ONE / (_ONE + e)
    small = e * r
    return r if z >= _ZERO else small, small * r


@scalar
def _clamped(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return z with minus infinity replaced by the least float32, and z with both infinities replaced.

    The callers multiply these by something that vanishes at infinity, and infinity times 0 would be NaN.
    """
    above = _LEAST if z < _LEAST else z
    return above, _MOST if above > _MOST else above


@scalar
def gelu(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = z Φ(z) and a' = Φ(z) + z φ(z), the exact form: Φ(z) = (1 + erf(z / √2)) / 2 and φ = Φ'.

    Notes
    -----
    Source: D. Hendrycks, K. Gimpel, Gaussian Error Linear Units, arXiv 1606.08415.
    """
    cdf, pdf = normal_cdf_pdf(z)
    above, within = _clamped(z)
    return above * cdf, cdf + within * pdf


@scalar
def silu(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = z σ(z) and a' = σ(z) (1 + z σ(-z)).

    Notes
    -----
    Source: S. Elfwing, E. Uchibe, K. Doya, Sigmoid-Weighted Linear Units for Neural Network Function Approximation in
    Reinforcement Learning, arXiv 1702.03118.
    """
    e = exp(-abs(z))
    r = _ONE / (_ONE + e)
    small = e * r
    s = r if z >= _ZERO else small
    c = small if z >= _ZERO else r
    above, within = _clamped(z)
    return above * s, s * (_ONE + within * c)


@scalar
def softplus(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = log(1 + eᶻ) = max(z, 0) + log(1 + e^-|z|) and a' = σ(z).

    Notes
    -----
    Source: C. Dugas, Y. Bengio, F. Bélisle, C. Nadeau, R. Garcia, Incorporating Second-Order Functional Knowledge for
    Better Option Pricing, NIPS 2000.
    """
    e = exp(-abs(z))
    r = _ONE / (_ONE + e)
    return (z if z > _ZERO else _ZERO) + log1p_unit(e), r if z >= _ZERO else e * r


@scalar
def elu(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = z and a' = 1 if z > 0, else a = eᶻ - 1 and a' = eᶻ. With α = 1, as here, a' is continuous.

    Notes
    -----
    Source: D.-A. Clevert, T. Unterthiner, S. Hochreiter, Fast and Accurate Deep Network Learning by Exponential Linear
    Units, arXiv 1511.07289.
    """
    e, m = exp_expm1(_ZERO if z > _ZERO else z)
    return z if z > _ZERO else m, e


RULES: dict[str, Rule] = {
    "identity": identity,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "gelu": gelu,
    "silu": silu,
    "softplus": softplus,
    "elu": elu,
}


OWN: dict[str, Rule] = {}
"""Rules that were made of a user's own functions, by the keys that ``fgnumba.layers.own_activation`` gives them."""


def rule_of(name: str) -> Rule:
    """Return the rule of an activation of fgnumba's, or of a user's own that was made in this process."""
    return RULES[name] if name in RULES else OWN[name]
