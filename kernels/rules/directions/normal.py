"""Turns random bits into standard normal numbers: the scalar rule that is compiled for every device.

It is the method of Box and Muller: with u uniform in (0, 1) and an angle φ uniform on the circle, sqrt(-2 ln u) (cos φ,
sin φ) is a pair of independent normal numbers (G. E. P. Box, M. E. Muller, 1958, doi 10.1214/aoms/1177706645).
"""

import math

import numpy as np

from fgnumba.kernels.machine.scalar import scalar
from fgnumba.kernels.rules.elementary import scaled_log, sincos_eighth

_RADIUS_DROP = np.uint32(11)
_ODD = np.uint32(1)
_RADIUS_SCALE = np.float32(-21)
_ANGLE_DROP = np.uint32(2)
_ANGLE_MASK = np.uint32(1023)
_ANGLE_MIDDLE = np.float32(511.5)
_ANGLE_STEP = np.float32(1 / 4096)
_TO_SIGN, _NEXT_TO_SIGN = np.uint32(31), np.uint32(30)
_SIGN = np.uint32(0x80000000)


@scalar
def normal_pair(word: np.uint32) -> tuple[np.uint32, np.uint32]:
    """Return the bits of two independent standard normal float32, made from one random word.

    Bits 12 to 31 are the integer n of u = (n + 1/2) / 2**20, so the largest radius is 5.4. Bits 2 to 11 are an angle
    in the first quadrant, and bits 0 and 1 are the signs. With φ = π/4 + ψ,

        sqrt(-2 ln u) (cos φ, sin φ) = sqrt(-ln u) (cos ψ - sin ψ, cos ψ + sin ψ),

    and since |ψ| < π/4, the range of ψ need not be reduced. The result is bits, not numbers, so that a loop can write
    it over the words that it reads.
    """
    u = np.float32(np.int32(np.uint32(np.uint32(word >> _RADIUS_DROP) | _ODD)))
    radius = np.float32(math.sqrt(-scaled_log(u, _RADIUS_SCALE)))
    psi = np.float32(np.int32(np.uint32(np.uint32(word >> _ANGLE_DROP) & _ANGLE_MASK))) - _ANGLE_MIDDLE
    cosine, sine = sincos_eighth(np.float32(psi * _ANGLE_STEP))
    x, y = np.float32(radius * (cosine - sine)), np.float32(radius * (cosine + sine))
    return (
        np.uint32(x.view(np.uint32) ^ np.uint32(word << _TO_SIGN)),
        np.uint32(y.view(np.uint32) ^ np.uint32(np.uint32(word << _NEXT_TO_SIGN) & _SIGN)),
    )
