"""Trigonometric functions and their inverses in float32 arithmetic; see :mod:`fgnumba.kernels.rules.elementary`.

An argument is reduced to |r| <= π/4 by subtracting a multiple of π/2 in three terms (Cody and Waite). The first two
terms have so few bits that their products with a multiple are exact up to |x| = 8,000. Beyond, the result is wrong by
at most a rounding of the argument, 2**-22 |x|; from 4,000,000 on, where float32 numbers are a quarter of a radian
apart, it is that of 4,000,000. Terms and coefficients of the inverse tangent are those of S. Moshier's Cephes library.

Largest errors measured against float64, over every 9,973rd float32 up to 8,000 in size:

=====================  ==============
function               units in the
                       last place
=====================  ==============
sin, cos               3.4
tan                    4.6
arctan                 2.3
arcsin, arccos         3.2
=====================  ==============
"""

import numpy as np

from fgnumba.kernels.machine.scalar import rounded_product, scalar
from fgnumba.kernels.rules.compound import sqrt
from fgnumba.kernels.rules.elementary import sincos_eighth

_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)

_ROUND, _ROUND_BITS = np.float32(12582912.0), np.int32(0x4B400000)
_LARGEST = np.float32(4e6)
_TWO_OVER_PI = np.float32(2 / np.pi)
# π/2 = first + second + third, to 1e-14.
_FIRST, _SECOND, _THIRD = (
    np.float32(1.5703125),
    np.float32(4.837512969970703e-4),
    np.float32(7.54978995489188e-8),
)
_TURNS = np.float32(1 / (2 * np.pi))
_BIT, _TWO_BIT = np.int32(1), np.int32(2)
_NONE = np.int32(0)

_HALF_PI, _QUARTER_PI = np.float32(np.pi / 2), np.float32(np.pi / 4)
_PI = np.float32(np.pi)
_HALF_PI_LOW = np.float32(-4.371139e-08)
_ABOVE, _BETWEEN = np.float32(2.414213562373095), np.float32(0.4142135623730950)
_ARCTAN = (
    np.float32(-3.33329491539e-1),
    np.float32(1.99777106478e-1),
    np.float32(-1.38776856032e-1),
    np.float32(8.05374449538e-2),
)


@scalar
def sin_and_cos(x: np.float32) -> tuple[np.float32, np.float32]:
    """Return sin x and cos x. Of infinity they are NaN."""
    size = abs(x)
    within = size if size < _LARGEST else _LARGEST
    rounded = np.float32(within * _TWO_OVER_PI + _ROUND)
    quadrant = np.int32(rounded.view(np.int32) - _ROUND_BITS)
    n = rounded - _ROUND
    r = within - rounded_product(n, _FIRST)
    r = r - rounded_product(n, _SECOND)
    r = r - rounded_product(n, _THIRD)
    cosine, sine = sincos_eighth(r * _TURNS)
    swapped = np.int32(quadrant & _BIT) != _NONE
    s = cosine if swapped else sine
    c = sine if swapped else cosine
    s = -s if np.int32(quadrant & _TWO_BIT) != _NONE else s
    c = -c if np.int32(np.int32(quadrant + _BIT) & _TWO_BIT) != _NONE else c
    # Infinity less itself is NaN, and of NaN it is, too.
    nothing = x - x
    return (s if x >= _ZERO else -s) + nothing, c + nothing


@scalar
def sin(x: np.float32) -> np.float32:
    """Return sin x."""
    return sin_and_cos(x)[0]


@scalar
def cos(x: np.float32) -> np.float32:
    """Return cos x."""
    return sin_and_cos(x)[1]


@scalar
def tan(x: np.float32) -> np.float32:
    """Return tan x, the quotient of sin x and cos x."""
    s, c = sin_and_cos(x)
    return s / c


@scalar
def arctan(x: np.float32) -> np.float32:
    """Return the inverse tangent, from -π/2 to π/2."""
    a = abs(x)
    above, between = a > _ABOVE, a > _BETWEEN
    numerator = -_ONE if above else (a - _ONE if between else a)
    denominator = a if above else (a + _ONE if between else _ONE)
    base = _HALF_PI if above else (_QUARTER_PI if between else _ZERO)
    low = _HALF_PI_LOW if above else (_HALF_PI_LOW / _TWO if between else _ZERO)
    t = numerator / denominator
    v = t * t
    c = _ARCTAN
    y = base + (t * v * (c[0] + v * (c[1] + v * (c[2] + v * c[3]))) + low + t)
    return y if x >= _ZERO else -y


@scalar
def arcsin(x: np.float32) -> np.float32:
    """Return the inverse sine: the inverse tangent of x / sqrt(1 - x²). It is NaN for |x| > 1."""
    inside = (_ONE - x) * (_ONE + x)
    root = sqrt(inside)
    return arctan(x / root)


@scalar
def arccos(x: np.float32) -> np.float32:
    """Return the inverse cosine: twice the inverse tangent of sqrt((1 - x) / (1 + x)). It is NaN for |x| > 1."""
    ratio = (_ONE - x) / (_ONE + x)
    root = sqrt(ratio)
    return _TWO * arctan(root)
