"""Elementary functions in float32 arithmetic, which the compiler can turn into vector code completely.

``math.exp`` and similar functions are scalar library calls, and a loop that contains one is not vectorised. The
functions here consist only of additions, products, quotients, selects, and integer operations on a float's bits. The
same source serves a Numba CPU kernel, a CUDA kernel, and plain Python on ``np.float32`` scalars.

Every argument and every result is float32, and so is every constant: an untyped literal, even the 0 of a comparison,
would promote to float64. Subnormal numbers are kept. NaN in gives NaN out. Multiply-adds may be fused but need not be:
the bounds hold with and without. In plain Python, NumPy scalars warn of overflow as usual, so call these functions
under ``np.errstate``.

The coefficients are weighted minimax fits in float64 (Lawson's reweighted least squares on Chebyshev nodes, against
the float64 functions of NumPy and SciPy). They were rounded to float32 one at a time, and the remaining ones fitted
again each time. Above each table stand the function that it approximates, the interval, and the largest error with
the rounded coefficients in exact arithmetic. Everything is forced inline: LLVM would leave the longer functions as
calls, and a loop with a call in it stays scalar.

Largest errors measured against float64, over every 97th float32, with and without fused multiply-adds:

=====================  ==============  ========
function               units in the    relative
                       last place
=====================  ==============  ========
exp                    1.1             8.3e-8
expm1                  1.7             1.2e-7
log                    0.9             8.3e-8
log1p_unit             1.7             1.5e-7
log1p_exp              2.5             2.1e-7
sigmoid                2.7             2.1e-7
tanh                   3.0             2.2e-7
erf                    3.2             2.2e-7
normal_cdf_pdf, cdf    5.7             4.3e-7
normal_cdf_pdf, pdf    2.1             2.0e-7
sincos_eighth          1.6             1.3e-7
=====================  ==============  ========

Relative errors are those of results that are normal float32.
"""

import numpy as np

from fgnumba.kernels.machine.scalar import rounded_product, scalar

_ZERO = np.float32(0)
_HALF = np.float32(0.5)
_ONE = np.float32(1)
_TWO = np.float32(2)
_FOUR = np.float32(4)
_INF = np.float32(np.inf)
_NEGATIVE_INF = np.float32(-np.inf)
_NAN = np.float32(np.nan)

_SHIFT = np.int32(23)  # number of bits in a float32's fraction
_BIAS = np.int32(127)
_BIT = np.int32(1)

# Adding 1.5 * 2**23 rounds to the nearest integer, and leaves that integer in the low bits of the sum.
_ROUND = np.float32(12582912.0)
_ROUND_BITS = np.int32(0x4B400000)

_LOG2E = np.float32(1.442695)
# ln 2 as two terms (Cody and Waite). The first has 15 bits, so that its product with an exponent is exact.
_LN2_HIGH = np.float32(0.69314575)
_LN2_LOW = np.float32(1.4286068e-06)

# Beyond these bounds, e**x is inf or rounds to 0. Between them, the exponent has 8 bits and a sign.
_EXP_HIGH = np.float32(89.0)
_EXP_LOW = np.float32(-105.0)
# From here on, e**x - 1 and e**x are the same float32.
_EXPM1_IS_EXP = np.float32(20.0)

# (e**r - 1 - r) / r**2, |r| <= 0.3477; error 1.4e-8 of e**r - 1
EXPM1 = (
    np.float32(0.49999997),
    np.float32(0.16666545),
    np.float32(0.04166744),
    np.float32(0.008366453),
    np.float32(0.0013870556),
)

# (log(1 + f) - f + f**2 / 2) / f**3, sqrt(1/2) - 1 <= f <= sqrt(2) - 1; error 5.9e-9 of log(1 + f)
_LOG = (
    np.float32(0.3333333),
    np.float32(-0.2500082),
    np.float32(0.20001242),
    np.float32(-0.16623409),
    np.float32(0.14201583),
    np.float32(-0.13159616),
    np.float32(0.1276218),
    np.float32(-0.076363556),
)
_SQRT_HALF_BITS = np.int32(0x3F3504F3)
_MIN_NORMAL = np.float32(2.0**-126)
_TWO_23 = np.float32(2.0**23)
_FRACTION_BITS = np.float32(23)

# log(1 + e) / e, 0 <= e <= 1; relative error 5.3e-9
_LOG1P_UNIT = (
    np.float32(1.0),
    np.float32(-0.4999993),
    np.float32(0.3333047),
    np.float32(-0.24958156),
    np.float32(0.19693193),
    np.float32(-0.15349098),
    np.float32(0.10670013),
    np.float32(-0.057561528),
    np.float32(0.020150334),
    np.float32(-0.0033065395),
)

# -log(erfc(a)) / a, 0 <= a <= 4; error 5.3e-8 of erf(a)
_ERF = (
    np.float32(1.1283792),
    np.float32(0.6366153),
    np.float32(0.102826595),
    np.float32(-0.019366473),
    np.float32(0.00028080886),
    np.float32(0.001189934),
    np.float32(-0.0003568352),
    np.float32(3.7141373e-05),
)
_ERF_IS_ONE = np.float32(4.0)

# exp(a**2 / 2) * (normal distribution function at -a) as numerator / (1 + a * denominator), 0 <= a <= 15;
# relative error 1.1e-8. All coefficients are positive, so nothing cancels.
_TAIL_NUMERATOR = (
    np.float32(0.5),
    np.float32(0.43859366),
    np.float32(0.18342657),
    np.float32(0.040689),
    np.float32(0.0041219885),
)
_TAIL_DENOMINATOR = (
    np.float32(1.6750722),
    np.float32(1.2033632),
    np.float32(0.46996814),
    np.float32(0.10199842),
    np.float32(0.010332179),
)
_TAIL_IS_ZERO = np.float32(15.0)
_HIGH_12_BITS = np.int32(-4096)
_INV_SQRT_2PI = np.float32(0.3989423)

# sin(2 pi r) / r as a polynomial in r**2, |r| <= 1/8; relative error 2.8e-8, which is the rounding of 2 pi
_SIN = (np.float32(6.2831855), np.float32(-41.341858), np.float32(81.62352), np.float32(-76.664604))
# (cos(2 pi r) - 1) / r**2 as a polynomial in r**2, |r| <= 1/8; error 4.4e-10 of cos(2 pi r)
_COS = (np.float32(-19.739208), np.float32(64.93915), np.float32(-85.424416), np.float32(58.611397))


@scalar
def _scaled_expm1(high: np.float32, low: np.float32) -> tuple[np.float32, np.float32, np.float32]:
    """Return p, s and t with e**(high + low) = (1 + p) s t, where |p| < 0.42, and s and t are powers of two.

    A single power of two would not do: 2**128, and 2**-127 to 2**-150, occur and are not normal float32. `low` is a
    correction of `high` that is small against 1.
    """
    x = _EXP_HIGH if high > _EXP_HIGH else high
    x = _EXP_LOW if x < _EXP_LOW else x
    rounded = np.float32(x * _LOG2E + _ROUND)
    exponent = np.int32(rounded.view(np.int32) - _ROUND_BITS)
    n = rounded - _ROUND
    r = ((x - n * _LN2_HIGH) - n * _LN2_LOW) + low
    c = EXPM1
    q = c[0] + r * (c[1] + r * (c[2] + r * (c[3] + r * c[4])))
    p = r + r * r * q
    first = np.int32(exponent >> _BIT)
    first_bits = np.int32((first + _BIAS) << _SHIFT)
    second_bits = np.int32((exponent - first + _BIAS) << _SHIFT)
    return p, first_bits.view(np.float32), second_bits.view(np.float32)


@scalar
def exp(x: np.float32) -> np.float32:
    """Return e**x. The result is inf above 88.7228, subnormal below -87.33, and 0 below -103.97."""
    p, s, t = _scaled_expm1(x, _ZERO)
    return (s + s * p) * t


@scalar
def exp_expm1(x: np.float32) -> tuple[np.float32, np.float32]:
    """Return e**x and e**x - 1, each with a small relative error, for little more than the cost of one."""
    p, s, t = _scaled_expm1(x, _ZERO)
    e = (s + s * p) * t
    scale = s * t
    return e, e if x > _EXPM1_IS_EXP else scale * p + (scale - _ONE)


@scalar
def expm1(x: np.float32) -> np.float32:
    """Return e**x - 1, with a small relative error near 0 too. It is exactly -1 below -17.33, and inf above 88.7228."""
    return exp_expm1(x)[1]


@scalar
def scaled_log(x: np.float32, scale: np.float32) -> np.float32:
    """Return log(2**scale x). x must be positive, normal and finite, and `scale` a whole number.

    With x = 2**n (1 + f) and 1 + f between sqrt(1/2) and sqrt(2), log x = n ln 2 + log(1 + f).
    """
    bits = np.float32(x).view(np.int32)
    exponent = np.int32(np.int32(bits - _SQRT_HALF_BITS) >> _SHIFT)
    mantissa_bits = np.int32(bits - np.int32(exponent << _SHIFT))
    f = mantissa_bits.view(np.float32) - _ONE
    n = np.float32(exponent) + scale
    c = _LOG
    q = c[0] + f * (c[1] + f * (c[2] + f * (c[3] + f * (c[4] + f * (c[5] + f * (c[6] + f * c[7]))))))
    square = f * f
    return n * _LN2_HIGH + (f + (square * (f * q - _HALF) + n * _LN2_LOW))


@scalar
def log(x: np.float32) -> np.float32:
    """Return the natural logarithm. It is -inf at 0, NaN for negative x, and inf at inf."""
    subnormal = x < _MIN_NORMAL
    y = scaled_log(np.float32(x * _TWO_23 if subnormal else x), -_FRACTION_BITS if subnormal else _ZERO)
    y = y if x < _INF else _INF
    return y if x > _ZERO else (_NEGATIVE_INF if x == _ZERO else _NAN)


@scalar
def log1p_unit(e: np.float32) -> np.float32:
    """Return log(1 + e) with a small relative error. e must be from 0 to 1."""
    c = _LOG1P_UNIT
    q = c[5] + e * (c[6] + e * (c[7] + e * (c[8] + e * c[9])))
    return e * (c[0] + e * (c[1] + e * (c[2] + e * (c[3] + e * (c[4] + e * q)))))


@scalar
def log1p_exp(x: np.float32) -> np.float32:
    """Return log(1 + e**x) = max(x, 0) + log(1 + e**-|x|), with a small relative error and without overflow."""
    return (x if x > _ZERO else _ZERO) + log1p_unit(exp(-abs(x)))


@scalar
def sigmoid(x: np.float32) -> np.float32:
    """Return 1 / (1 + e**-x), computed from e**-|x|. It is exactly 1 from 17.33 on, and 0 below -103.97."""
    e = exp(-abs(x))
    r = _ONE / (_ONE + e)
    return r if x >= _ZERO else e * r


@scalar
def tanh_and_slope(x: np.float32) -> tuple[np.float32, np.float32]:
    """Return tanh x and its derivative 1 - tanh(x)**2, each with a small relative error.

    With e = e**(-2 |x|) and m = e - 1, tanh |x| = -m / (2 + m), and the derivative is 4 e / (2 + m)**2.
    """
    e, m = exp_expm1(-_TWO * abs(x))
    r = _ONE / (_TWO + m)
    y = m * r
    return -y if x >= _ZERO else y, _FOUR * e * (r * r)


@scalar
def tanh(x: np.float32) -> np.float32:
    """Return the hyperbolic tangent. It is exactly ±1 beyond ±9.02."""
    return tanh_and_slope(x)[0]


@scalar
def erf(x: np.float32) -> np.float32:
    """Return the error function. It is exactly ±1 beyond ±4.

    It is computed as erf a = 1 - e**(-a P(a)), because this exponent is smooth in a, and e**u - 1 has a small
    relative error near 0.
    """
    a = abs(x)
    a = _ERF_IS_ONE if a > _ERF_IS_ONE else a
    c = _ERF
    q = c[0] + a * (c[1] + a * (c[2] + a * (c[3] + a * (c[4] + a * (c[5] + a * (c[6] + a * c[7]))))))
    y = expm1(-(a * q))
    return -y if x >= _ZERO else y


@scalar
def normal_cdf_pdf(x: np.float32) -> tuple[np.float32, np.float32]:
    """Return the standard normal distribution function and density at x, with a small relative error in both tails.

    With a = |x|, the density is e**(-a**2 / 2) / sqrt(2 pi). The distribution function is e**(-a**2 / 2) Q(a) at -a,
    and 1 minus that at a. If a**2 / 2 were rounded to one float32, the tail would be wrong by up to 6e-6. So a is
    split in two, such that the square of the first part is exact.
    """
    a = abs(x)
    a = np.float32(_TAIL_IS_ZERO if a > _TAIL_IS_ZERO else a)
    high_bits = np.int32(a.view(np.int32) & _HIGH_12_BITS)
    high = high_bits.view(np.float32)
    p, s, t = _scaled_expm1(-_HALF * (high * high), -_HALF * ((a - high) * (a + high)))
    e = (s + s * p) * t
    c = _TAIL_NUMERATOR
    d = _TAIL_DENOMINATOR
    numerator = c[0] + a * (c[1] + a * (c[2] + a * (c[3] + a * c[4])))
    denominator = _ONE + a * (d[0] + a * (d[1] + a * (d[2] + a * (d[3] + a * d[4]))))
    tail = e * (numerator / denominator)
    return _ONE - tail if x >= _ZERO else tail, e * _INV_SQRT_2PI


@scalar
def sincos_eighth(r: np.float32) -> tuple[np.float32, np.float32]:
    """Return cos(2 pi r) and sin(2 pi r), in that order. |r| must be at most 1/8."""
    v = r * r
    c = _SIN
    sine = rounded_product(r, c[0] + v * (c[1] + v * (c[2] + v * c[3])))
    d = _COS
    return _ONE + v * (d[0] + v * (d[1] + v * (d[2] + v * d[3]))), sine
