"""Recurrences of one unit at one position: its gates, its next state, and the factors of its tangents.

An argument that begins with p is a pre-activation: the product of the input with the weight, the bias, and the product
of the states before where the layer has one. Every device compiles these functions.
"""

import numpy as np

from fgnumba.kernels.machine.scalar import scalar
from fgnumba.kernels.rules.activations.rules import sigmoid, tanh
from fgnumba.kernels.rules.compound import sqrt
from fgnumba.kernels.rules.elementary import exp, expm1

Float = np.float32

_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)
_STEEPEST = np.float32(80)


@scalar
def elementwise_lstm(
    pz: Float, pf: Float, wz: Float, wf: Float, c: Float
) -> tuple[Float, Float, Float, Float, Float, Float]:
    """Return z = tanh(pz + wz c), f = σ(pf + wf c), c' = f c + (1 - f) z, and the factors az, af and d.

    The tangent of c' is d dc + az (dpz + c dwz) + af (dpf + c dwf), where d is ∂c'/∂c.
    """
    z, slope = tanh(pz + wz * c)
    f, bend = sigmoid(pf + wf * c)
    az, af = (_ONE - f) * slope, (c - z) * bend
    return z, f, f * c + (_ONE - f) * z, az, af, f + (az * wz + af * wf)


@scalar
def min_gru(candidate: Float, pz: Float, h: Float) -> tuple[Float, Float, Float]:
    """Return z = σ(pz), h' = (1 - z) h + z `candidate`, and the factor az.

    The tangent of h' is (1 - z) dh + z dcandidate + az dpz.
    """
    z, bend = sigmoid(pz)
    return z, (_ONE - z) * h + z * candidate, (candidate - h) * bend


@scalar
def lstm(
    pi: Float, pf: Float, pg: Float, po: Float, c: Float
) -> tuple[Float, Float, Float, Float, Float, Float, Float, Float, Float, Float, Float]:
    """Return i, f, g, o, c' = f c + i g, h' = o tanh(c'), and the factors ai, af, ag, ao and ac.

    The tangents are dc' = f dc + ai dpi + af dpf + ag dpg and dh' = ao dpo + ac dc'.
    """
    i, i_bend = sigmoid(pi)
    f, f_bend = sigmoid(pf)
    g, slope = tanh(pg)
    o, o_bend = sigmoid(po)
    after = f * c + i * g
    bounded, flat = tanh(after)
    return i, f, g, o, after, o * bounded, i_bend * g, f_bend * c, i * slope, o_bend * bounded, o * flat


@scalar
def gru(
    pr: Float, pz: Float, pn: Float, recurrent: Float, h: Float
) -> tuple[Float, Float, Float, Float, Float, Float, Float]:
    """Return r, z, n = tanh(pn + r `recurrent`), h' = (1 - z) n + z h, and the factors ar, az and an.

    The tangent of h' is z dh + ar dpr + az dpz + an (dpn + r drecurrent).
    """
    r, r_bend = sigmoid(pr)
    z, z_bend = sigmoid(pz)
    n, slope = tanh(pn + r * recurrent)
    an = (_ONE - z) * slope
    return r, z, n, (_ONE - z) * n + z * h, an * recurrent * r_bend, (h - n) * z_bend, an


@scalar
def decay(nu: Float) -> tuple[Float, Float, Float, Float]:
    """Return |λ| = exp(-exp(ν)), γ = √(1 - |λ|²), -exp(ν), and dγ/dν. The derivative of |λ| is -exp(ν) |λ|."""
    # Beyond, |λ| is 0, and an infinite rate times 0 would be NaN.
    rate = exp(_STEEPEST if nu > _STEEPEST else nu)
    size = exp(-rate)
    gamma = sqrt(-expm1(-_TWO * rate))
    return size, gamma, -rate, size * size * rate / gamma if gamma > _ZERO else _ZERO
