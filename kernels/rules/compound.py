"""Functions composed of those of :mod:`fgnumba.kernels.rules.elementary`, in float32 arithmetic, too.

They are what an activation of one's own may call.

Largest errors measured against float64, over every 97th float32 at which the result is a normal number:

=====================  ==============  ==============================================
function               units in the    where it is larger
                       last place
=====================  ==============  ==============================================
log1p                  3
exp2                   2
log2, log10            3
sinh, cosh             4
arcsinh                5
arccosh                5               near 1 that of the argument's rounding
arctanh                5
erfc                   6               grows with x²: an argument's rounding counts
cbrt                   2
power                                  grows with b log a
=====================  ==============  ==============================================
"""

import math

import numpy as np

from fgnumba.kernels.machine.scalar import scalar
from fgnumba.kernels.rules.elementary import exp, expm1, log, normal_cdf_pdf, tanh_and_slope

_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
_INF, _NAN = np.float32(np.inf), np.float32(np.nan)
_LN2, _LOG2E, _LOG10E = np.float32(np.log(2)), np.float32(1 / np.log(2)), np.float32(1 / np.log(10))
_LN2_LOW = np.float32(np.log(2) - np.float64(np.float32(np.log(2))))
_SQRT_2 = np.float32(np.sqrt(2))
_THIRD = np.float32(1 / 3)
_LARGE = np.float32(1e9)
_STEEP = np.float32(20)
_ROUND, _ROUND_BITS = np.float32(12582912.0), np.int32(0x4B400000)
_TWO_22, _TWO_23 = np.float32(2.0**22), np.float32(2.0**23)
_SHIFT, _BIAS, _BIT = np.int32(23), np.int32(127), np.int32(1)
_MOST_EXPONENT, _LEAST_EXPONENT = np.float32(129), np.float32(-151)
_HALF_POWER = np.float32(2.0**24)
_SMALLEST = np.float32(2.0**-126)


@scalar
def sqrt(x: np.float32) -> np.float32:
    """Return the square root. It is NaN for negative x."""
    # Where the compiler sees that an argument is never negative it makes an instruction, and else a call.
    root = np.float32(math.sqrt(abs(x)))
    return _NAN if x < _ZERO else root


@scalar
def tanh_slope(x: np.float32) -> np.float32:
    """Return the derivative of the hyperbolic tangent, without cancellation."""
    return tanh_and_slope(x)[1]


@scalar
def log1p(x: np.float32) -> np.float32:
    """Return log(1 + x). With u = 1 + x as it is rounded, it is log(u) x / (u - 1) (W. Kahan)."""
    u = np.float32(_ONE + x)
    difference = np.float32(u - _ONE)
    exact = difference == x
    y = log(u)
    scaled = y * (x / (_ONE if difference == _ZERO else difference))
    y = y if exact else scaled
    return x if difference == _ZERO else y


@scalar
def exp2(x: np.float32) -> np.float32:
    """Return 2**x. The fraction of x alone is multiplied by log 2, so that the error does not grow with x."""
    within = _MOST_EXPONENT if x > _MOST_EXPONENT else x
    within = _LEAST_EXPONENT if within < _LEAST_EXPONENT else within
    rounded = np.float32(within + _ROUND)
    exponent = np.int32(rounded.view(np.int32) - _ROUND_BITS)
    y = exp((within - (rounded - _ROUND)) * _LN2)
    first = np.int32(exponent >> _BIT)
    first_bits = np.int32((first + _BIAS) << _SHIFT)
    second_bits = np.int32((exponent - first + _BIAS) << _SHIFT)
    return (y * first_bits.view(np.float32)) * second_bits.view(np.float32)


@scalar
def log2(x: np.float32) -> np.float32:
    """Return the logarithm to base 2."""
    return log(x) * _LOG2E


@scalar
def log10(x: np.float32) -> np.float32:
    """Return the logarithm to base 10."""
    return log(x) * _LOG10E


@scalar
def sinh(x: np.float32) -> np.float32:
    """Return the hyperbolic sine: with m = e**|x| - 1, it is (m + m / (1 + m)) / 2."""
    a = abs(x)
    half = exp(_HALF * a)
    m = expm1(_STEEP if a > _STEEP else a)
    y = (_HALF * half) * half if a > _STEEP else _HALF * (m + m / (_ONE + m))
    return y if x >= _ZERO else -y


@scalar
def cosh(x: np.float32) -> np.float32:
    """Return the hyperbolic cosine: with h = e**(|x| / 2), it is (h² + 1 / h²) / 2."""
    h = exp(_HALF * abs(x))
    return (_HALF * h) * h + _HALF / (h * h)


@scalar
def arcsinh(x: np.float32) -> np.float32:
    """Return the inverse hyperbolic sine: log(1 + |x| + x² / (1 + sqrt(1 + x²))), with the sign of x."""
    a = abs(x)
    b = _ONE if a > _LARGE else a
    near = log1p(b + b * b / (_ONE + np.float32(math.sqrt(_ONE + b * b))))
    y = log(a) + _LN2 if a > _LARGE else near
    y = y + (a - a) if a < _INF else a
    return y if x >= _ZERO else -y


@scalar
def arccosh(x: np.float32) -> np.float32:
    """Return the inverse hyperbolic cosine: log(1 + t + sqrt(2 t + t²)) with t = x - 1. It is NaN for x < 1."""
    t = x - _ONE
    within = _ONE if t > _LARGE else t
    inside = within * (_TWO + within)
    near = log1p(within + sqrt(inside))
    return log(x) + _LN2 if t > _LARGE else (near if t >= _ZERO else _NAN)


@scalar
def arctanh(x: np.float32) -> np.float32:
    """Return the inverse hyperbolic tangent: log(1 + 2 |x| / (1 - |x|)) / 2, with the sign of x."""
    a = abs(x)
    y = _HALF * log1p(_TWO * a / (_ONE - a))
    return y if x >= _ZERO else -y


@scalar
def erfc(x: np.float32) -> np.float32:
    """Return 1 - erf x: twice the normal distribution function at -sqrt(2) x."""
    return _TWO * normal_cdf_pdf(-_SQRT_2 * x)[0]


@scalar
def cbrt(x: np.float32) -> np.float32:
    """Return the cube root: e**(log|x| / 3), and one step of Newton's method. Subnormal numbers are scaled before."""
    a = abs(x)
    small = a < _SMALLEST
    b = np.float32(a * _HALF_POWER if small else a)
    y = exp(log(b if b > _ZERO else _ONE) * _THIRD)
    y = y - (y - b / (y * y)) * _THIRD
    y = y * np.float32(_ONE / np.float32(256.0)) if small else y
    y = _ZERO if a == _ZERO else y
    y = a if a == _INF else (y if a >= _ZERO else a)
    return y if x >= _ZERO else -y


@scalar
def power(a: np.float32, b: np.float32) -> np.float32:
    """Return a**b = e**(b log a) for a >= 0; NaN for negative a, as a real power is, and 1 where b is 0."""
    y = exp(b * log(a))
    return _ONE if b == _ZERO else y


@scalar
def floor(x: np.float32) -> np.float32:
    """Return the largest whole number that is at most x."""
    nearest = (x + _ROUND) - _ROUND
    y = nearest - _ONE if nearest > x else nearest
    return y if abs(x) < _TWO_22 else far_floor(x)


@scalar
def far_floor(x: np.float32) -> np.float32:
    """Return the same from 2**22 on in size, where a number is whole or a half more."""
    a = abs(x)
    whole = (a + _TWO_23) - _TWO_23 if a < _TWO_23 else a
    down = whole - _ONE if whole > a else whole
    up = whole if whole >= a else whole + _ONE
    return down if x >= _ZERO else -up
