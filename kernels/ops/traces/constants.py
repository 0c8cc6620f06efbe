"""The constants of a block of units: what a recurrence's derivatives need of the parameters beside the weight."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.rules.compound import sqrt
from fgnumba.kernels.rules.elementary import exp, expm1
from fgnumba.kernels.rules.trigonometric import sin_and_cos

ZERO = np.float32(0)
TWO = np.float32(2)


@register_jitable
def _recurrent(own: int, other: int, unit: int, units: int, width: int, out: int) -> None:
    """w_z, w_f."""
    rows = carray(pointer(out, np.float32), (2, width))
    for g in range(2):
        weights = carray(pointer(own + (g * units + unit) * 4, np.float32), width)
        for lane in range(width):
            rows[g, lane] = weights[lane]


@register_jitable
def _none(own: int, other: int, unit: int, units: int, width: int, out: int) -> None:
    pass


@register_jitable
def _real(own: int, other: int, unit: int, units: int, width: int, out: int) -> None:
    """λ = exp(-exp(ν)), γ = √(1 - λ²), ∂λ/∂ν = -exp(ν) λ, ∂γ/∂ν = exp(ν) λ² / γ."""
    rows = carray(pointer(out, np.float32), (4, width))
    nus = carray(pointer(own + unit * 4, np.float32), width)
    for lane in range(width):
        rate = exp(nus[lane])
        size, gain = exp(-rate), sqrt(-expm1(-TWO * rate))
        rows[0, lane], rows[1, lane] = size, gain
        rows[2, lane], rows[3, lane] = -rate * size, rate * size * size / gain


@register_jitable
def _complex(own: int, other: int, unit: int, units: int, width: int, out: int) -> None:
    """Of λ = exp(-exp(ν) + i θ): Re λ, Im λ, γ, -γ, Re ∂λ/∂ν, Im ∂λ/∂ν, ∂γ/∂ν."""
    rows = carray(pointer(out, np.float32), (7, width))
    nus = carray(pointer(own + unit * 4, np.float32), width)
    thetas = carray(pointer(other + unit * 4, np.float32), width)
    for lane in range(width):
        rate = exp(nus[lane])
        size, gain = exp(-rate), sqrt(-expm1(-TWO * rate))
        sine, cosine = sin_and_cos(thetas[lane])
        real, imaginary = size * cosine, size * sine
        rows[0, lane], rows[1, lane] = real, imaginary
        rows[2, lane], rows[3, lane] = gain, -gain
        rows[4, lane], rows[5, lane] = -rate * real, -rate * imaginary
        rows[6, lane] = rate * size * size / gain


@cache
def constants_of(recurrence: str) -> Callable[[int, int, int, int, int, int], None]:
    """Return the function that writes a block's constants, in the order in which ``emit.FORMULAS`` lists them.

    It takes the addresses of the two parameters, the number of the first unit, the number of units Hp, that of the
    block, and the address of the rows that it writes.
    """
    return {
        "elementwise_lstm": _recurrent,
        "min_gru": _none,
        "linear": _real,
        "complex_linear": _complex,
    }[recurrence]
