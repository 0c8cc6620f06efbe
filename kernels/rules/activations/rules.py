"""One scalar rule an activation: z -> (a(z), a'(z)), both float32.

A dual epilogue needs both, and they share most of their work. Written once, in the arithmetic of
:mod:`fgnumba.kernels.rules.elementary`: plain Python on ``np.float32`` scalars, vector code on a CPU, and CUDA.

For every finite z, value and derivative are finite; at plus and minus infinity they are what they tend to. They are
accurate to 1e-6 of themselves while the exponential that they hold is a normal float32 (|z| < 13 for gelu, 43 for
tanh, 87 for the others), and to 256 of the smallest subnormal beyond. Near a zero of a derivative (gelu's at -0.7518,
silu's at -1.2785) the derivative's error is absolute, 1e-7. NaN gives a NaN value; where the derivative is piecewise
constant, it stays a number. The sign of a zero is not kept.
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
    """Return a = max(z, 0) and a' = 1 where z > 0, else 0: of the subgradients at z = 0, the least.

    Source: V. Nair, G. E. Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, ICML 2010.
    """
    # z <= 0 rather than z > 0: NaN stays NaN.
    return _ZERO if z <= _ZERO else z, _ONE if z > _ZERO else _ZERO


@scalar
def leaky_relu(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = z, a' = 1 where z > 0, else a = z / 100, a' = 1 / 100.

    Source: A. L. Maas, A. Y. Hannun, A. Y. Ng, Rectifier Nonlinearities Improve Neural Network Acoustic
    Models, ICML 2013.
    """
    slope = _ONE if z > _ZERO else _LEAKY_SLOPE
    return slope * z, slope


@scalar
def tanh(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = tanh z and a' = 1 - a², the latter without the cancellation."""
    return tanh_and_slope(z)


@scalar
def sigmoid(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = σ(z) = 1 / (1 + e⁻ᶻ) and a' = σ(z) σ(-z).

    With e = e^-|z| and r = 1 / (1 + e): σ(|z|) = r and σ(-|z|) = e r.
    """
    e = exp(-abs(z))
    r = _ONE / (_ONE + e)
    small = e * r
    return r if z >= _ZERO else small, small * r


@scalar
def _clamped(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return z without minus infinity, and without either: infinity times what vanishes there would be NaN."""
    above = _LEAST if z < _LEAST else z
    return above, _MOST if above > _MOST else above


@scalar
def gelu(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = z Φ(z) and a' = Φ(z) + z φ(z).

    The exact form: Φ(z) = (1 + erf(z / √2)) / 2, φ = Φ'.

    Source: D. Hendrycks, K. Gimpel, Gaussian Error Linear Units, arXiv 1606.08415.
    """
    cdf, pdf = normal_cdf_pdf(z)
    above, within = _clamped(z)
    return above * cdf, cdf + within * pdf


@scalar
def silu(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = z σ(z) and a' = σ(z) (1 + z σ(-z)).

    Source: S. Elfwing, E. Uchibe, K. Doya, Sigmoid-Weighted Linear Units for Neural Network Function
    Approximation in Reinforcement Learning, arXiv 1702.03118.
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

    Source: C. Dugas, Y. Bengio, F. Bélisle, C. Nadeau, R. Garcia, Incorporating Second-Order Functional
    Knowledge for Better Option Pricing, NIPS 2000.
    """
    e = exp(-abs(z))
    r = _ONE / (_ONE + e)
    return (z if z > _ZERO else _ZERO) + log1p_unit(e), r if z >= _ZERO else e * r


@scalar
def elu(z: np.float32) -> tuple[np.float32, np.float32]:
    """Return a = z, a' = 1 where z > 0, else a = eᶻ - 1, a' = eᶻ (α = 1: a' is continuous).

    Source: D.-A. Clevert, T. Unterthiner, S. Hochreiter, Fast and Accurate Deep Network Learning by
    Exponential Linear Units, arXiv 1511.07289.
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
