"""Means and variances of float32 numbers that are accurate to float32, whatever the numbers' mean and size.

The formula E x² - (E x)² loses all digits if the mean is large compared with the spread. The mean itself, rounded to
float32, may be wrong by more than the spread: the mean of 3·10⁷ + {0, 2, 4} is accurate only to 1. Therefore
numbers that are normalised together (a *group*) are summed as follows, where U = 2⁻²⁴ is float32's unit roundoff:

1. Numbers are taken relative to one of them, p. The difference x - p is exact if the two are within a factor of two of
   each other, and otherwise has the rounding error U |x - p|. At most ``RUN`` differences are summed in float32, or
   ``RUN_OF_PRODUCTS`` squares and products; sums of these sums are float64.
2. The mean, p + Σ (x - p) / n, is kept as two float32, high and low. Then (x - high) - low has a relative error of 2 U.
3. Σ d and Σ d² are computed for d = (x - high) - low. The mean of d is the error of the mean. It may be as large as
   U |mean - p|, which is much if p is an outlier, so it is subtracted from d. The variance is E d² - (E d)², where the
   second term is next to nothing.

Squares of float32 numbers overflow from 2⁶⁴ on, and sums and differences may overflow too. If that may have happened
in a group, it is computed again with all its numbers times the power of two ``SHRUNK``, and ε times its square. If a
result is still not finite, it stays so: an infinity or NaN among the numbers makes all results NaN.

Tangents, too, are multiplied by a power of two, the one next to 1 / √(σ² + ε) if that is below 1
(``tangent_factor``). What is computed from them then has the size of the result, and overflows or is subnormal only
if the result is. A sum of many may overflow all the same; then it is computed again with the factor
``TANGENT_SHRUNK``.

Subnormal differences and tangents count as zero, as everywhere in a program.
"""

import math
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.scalar import scalar

MOST_VARIANCE = np.float32(2.0**80)
"""If a variance is larger than this, or NaN, squares in it may have overflowed."""

SHRUNK = np.float32(2.0**-90)
"""Brings numbers of any size below 2³⁹, so that 2³¹ of their squares can be summed; a deviation of 2⁴⁰ becomes 2⁻⁵⁰."""

TANGENT_SHRUNK = np.float32(2.0**-64)
"""Brings tangents of any size below 2⁶⁵, so that 2²³ products of them with numbers up to 2⁴⁰ can be summed."""

LEAST_EPSILON = 2.0**-100
"""The least ε that a normalisation accepts, 8·10⁻³¹.

Squares below 2⁻¹²⁶ count as zero, and must be negligible compared with ε; and 1 / √ε is at most 2⁵⁰.
"""

LEAST = np.float32(2.0**-126)
"""The least normal float32."""

RUN = 1024
"""How many differences are summed in float32."""

RUN_OF_PRODUCTS = 256
"""How many squares, or products with x̂, are summed in float32.

One of them may be as large as all others together. Each of the others that is added to it is then rounded by up to U
times that, and often all of them in the same direction. How many are depends on the processor: with vectors of eight
numbers, four of which are summed side by side, it is one in 32, which is 32 U of 1024 numbers but 8 U of 256.
"""

_ZERO = np.float32(0)
_ORDERED = {"contract", "nsz"}
_ANY_ORDER = {"contract", "nsz", "reassoc"}


@register_jitable(forceinline=True, fastmath=_ORDERED)
def apart(x: np.float32, factor: np.float32, pivot: np.float32) -> np.float32:
    """Return f x - p. Sums of these differences may be taken in any order, but each difference is taken first."""
    return x * factor - pivot


@register_jitable(forceinline=True, fastmath=_ORDERED)
def centred(x: np.float32, factor: np.float32, high: np.float32, low: np.float32) -> np.float32:
    """Return f x minus the mean, high + low, subtracted in this order."""
    return (x * factor - high) - low


@scalar
def mean_of(pivot: np.float32, difference: np.float32) -> tuple[np.float32, np.float32]:
    """Return p + m as two float32, with an error of at most 2 U |m|; exactly if |m| <= |p| (T. J. Dekker's sum)."""
    high = np.float32(pivot + difference)
    return high, np.float32(difference - np.float32(high - pivot))


@scalar
def inverse_deviation(variance: np.float32, epsilon: np.float32, factor: np.float32) -> np.float32:
    """Return 1 / √(σ² + ε) for numbers that were multiplied by `factor`, and whose variance σ² is `variance`."""
    # Rounding may have made the variance negative.
    positive = np.float32(0) if variance < np.float32(0) else variance
    return np.float32(1) / np.float32(math.sqrt(np.float32(positive + epsilon * (factor * factor))))


@scalar
def power_of_two(x: np.float32) -> np.float32:
    """Return the largest power of two that is at most x. x must be a normal float32 above 0."""
    return np.float32(np.int32(np.float32(x).view(np.int32) & np.int32(0x7F800000)).view(np.float32))


@scalar
def tangent_factor(inverse: np.float32, factor: np.float32) -> np.float32:
    """Return the power of two f' with f' <= min(r, 1) < 2 f', where r = 1 / √(σ² + ε).

    f' is at least the least normal number, since r itself may be subnormal.

    Parameters
    ----------
    inverse : float32
        1 / √(σ² + ε) of the numbers times `factor`, see :func:`inverse_deviation`.
    factor : float32
        The factor.
    """
    one, r = np.float32(1), np.float32(inverse * factor)
    # If r is NaN, so is x̂, and the factor may be any number.
    bounded = r if r < one else one
    return power_of_two(bounded if bounded > LEAST else LEAST)


@register_jitable(forceinline=True)
def _run(at: int, start: int, size: int, most: int = RUN) -> Any:
    """Return the run of at most `most` elements that begins at element `start` of a row of float32.

    It is an array of its own. For all that the compiler knows, an index counted from `start` might be negative, and the
    loop would stay scalar.
    """
    return carray(pointer(at + 4 * start, np.float32), min(most, size - start))


@register_jitable(forceinline=True, fastmath=_ANY_ORDER)
def _run_of_differences(x: Any, factor: np.float32, pivot: np.float32) -> np.float32:
    total = _ZERO
    for c in range(x.size):
        total += apart(x[c], factor, pivot)
    return total


@register_jitable(forceinline=True)
def _differences(at: int, size: int, factor: np.float32, pivot: np.float32) -> np.float32:
    """Return Σ (f x - p) over the row at the address `at`."""
    first = _run_of_differences(_run(at, 0, size), factor, pivot)
    if size <= RUN:
        return first
    total = np.float64(first)
    for start in range(RUN, size, RUN):
        total += np.float64(_run_of_differences(_run(at, start, size), factor, pivot))
    return np.float32(total)


@register_jitable(forceinline=True, fastmath=_ANY_ORDER)
def _run_of_squares(
    x: Any, factor: np.float32, high: np.float32, low: np.float32, out: Any
) -> tuple[np.float32, np.float32]:
    total = square = _ZERO
    for c in range(x.size):
        d = centred(x[c], factor, high, low)
        out[c] = d
        total += d
        square += d * d
    return total, square


@register_jitable(forceinline=True)
def _squares(
    at: int, size: int, factor: np.float32, high: np.float32, low: np.float32, to: int
) -> tuple[np.float32, np.float32]:
    """Return Σ d and Σ d² for d = (f x - high) - low, and write d to the row at `to`."""
    first, first_square = _run_of_squares(
        _run(at, 0, size, RUN_OF_PRODUCTS), factor, high, low, _run(to, 0, size, RUN_OF_PRODUCTS)
    )
    if size <= RUN_OF_PRODUCTS:
        return first, first_square
    total, square = np.float64(first), np.float64(first_square)
    for start in range(RUN_OF_PRODUCTS, size, RUN_OF_PRODUCTS):
        x, out = _run(at, start, size, RUN_OF_PRODUCTS), _run(to, start, size, RUN_OF_PRODUCTS)
        part, part_square = _run_of_squares(x, factor, high, low, out)
        total += np.float64(part)
        square += np.float64(part_square)
    return np.float32(total), np.float32(square)


@register_jitable(forceinline=True, fastmath=_ANY_ORDER)
def _run_of_products(
    normal: Any, x: Any, factor: np.float32, pivot: np.float32
) -> tuple[np.float32, np.float32]:
    total = dot = _ZERO
    for c in range(x.size):
        difference = apart(x[c], factor, pivot)
        total += difference
        dot += normal[c] * difference
    return total, dot


@register_jitable(forceinline=True)
def _products(
    normals: int, at: int, size: int, factor: np.float32, pivot: np.float32
) -> tuple[np.float32, np.float32]:
    """Return Σ e and Σ x̂ e for e = f x - p, where x̂ is the row at the address `normals`."""
    first, first_dot = _run_of_products(
        _run(normals, 0, size, RUN_OF_PRODUCTS), _run(at, 0, size, RUN_OF_PRODUCTS), factor, pivot
    )
    if size <= RUN_OF_PRODUCTS:
        return first, first_dot
    total, dot = np.float64(first), np.float64(first_dot)
    for start in range(RUN_OF_PRODUCTS, size, RUN_OF_PRODUCTS):
        normal = _run(normals, start, size, RUN_OF_PRODUCTS)
        x = _run(at, start, size, RUN_OF_PRODUCTS)
        part, part_dot = _run_of_products(normal, x, factor, pivot)
        total += np.float64(part)
        dot += np.float64(part_dot)
    return np.float32(total), np.float32(dot)


@register_jitable(forceinline=True)
def _centre(
    at: int, size: int, share: np.float32, to: int, factor: np.float32
) -> tuple[np.float32, np.float32]:
    """Write d to the row at `to`; return the mean of d, and the variance of f x."""
    pivot = carray(pointer(at, np.float32), 1)[0] * factor
    high, low = mean_of(pivot, _differences(at, size, factor, pivot) * share)
    total, square = _squares(at, size, factor, high, low, to)
    left = total * share
    return left, square * share - left * left


@register_jitable
def _centre_again(at: int, size: int, share: np.float32, to: int) -> tuple[np.float32, np.float32]:
    # A function of its own, which is rarely called. In the usual code, the factor is the constant 1 and costs nothing.
    return _centre(at, size, share, to, SHRUNK)


@register_jitable(forceinline=True)
def centre(
    at: int, size: int, share: np.float32, epsilon: np.float32, to: int
) -> tuple[np.float32, np.float32, np.float32]:
    """Write d, the row x times a factor f minus its mean, to another row. d is exact but for one rounding of the mean.

    Parameters
    ----------
    at : int
        Address of x, `size` float32.
    size : int
        Number of elements.
    share : float32
        1 / `size`.
    epsilon : float32
        ε.
    to : int
        Address of d, `size` float32.

    Returns
    -------
    factor : float32
        f, which is 1 unless a square overflows.
    left : float32
        The mean of d, which is left to subtract.
    inverse : float32
        1 / √(σ² + ε) of the numbers times f.
    """
    factor = np.float32(1)
    left, variance = _centre(at, size, share, to, factor)
    if not variance <= MOST_VARIANCE:
        factor = SHRUNK
        left, variance = _centre_again(at, size, share, to)
    return factor, left, inverse_deviation(variance, epsilon, factor)


@register_jitable(forceinline=True)
def _project(
    normals: int, at: int, size: int, share: np.float32, factor: np.float32
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Return `factor`, the mean of f' dx as two float32, and mean(x̂ f' dx)."""
    pivot = carray(pointer(at, np.float32), 1)[0] * factor
    total, dot = _products(normals, at, size, factor, pivot)
    high, low = mean_of(pivot, total * share)
    return factor, high, low, dot * share


@register_jitable
def _project_again(
    normals: int, at: int, size: int, share: np.float32, factor: np.float32
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    return _project(normals, at, size, share, factor)


@register_jitable(forceinline=True)
def project(
    normals: int, at: int, size: int, share: np.float32, own: np.float32
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Return a factor f' for the tangents dx, the mean of f' dx as two float32, and mean(x̂ f' dx).

    Parameters
    ----------
    normals : int
        Address of x̂, `size` float32.
    at : int
        Address of dx, `size` float32.
    size : int
        Number of elements.
    share : float32
        1 / `size`.
    own : float32
        :func:`tangent_factor` of the row, which f' is unless a sum overflows.
    """
    moments = _project(normals, at, size, share, own)
    if own > TANGENT_SHRUNK and not (np.isfinite(moments[1]) and np.isfinite(moments[3])):
        moments = _project_again(normals, at, size, share, TANGENT_SHRUNK)
    return moments


@register_jitable(forceinline=True)
def _mean_square(at: int, size: int, share: np.float32, to: int, factor: np.float32) -> np.float32:
    """Write f x to the row at `to`, and return the mean of its squares."""
    return _squares(at, size, factor, _ZERO, _ZERO, to)[1] * share


@register_jitable
def _mean_square_again(at: int, size: int, share: np.float32, to: int) -> np.float32:
    return _mean_square(at, size, share, to, SHRUNK)


@register_jitable(forceinline=True)
def scale(
    at: int, size: int, share: np.float32, epsilon: np.float32, to: int
) -> tuple[np.float32, np.float32]:
    """Write the row x times a factor f to another row; return f, and 1 / √(mean(x²) + ε) of the numbers times f.

    The arguments are those of :func:`centre`.
    """
    factor = np.float32(1)
    square = _mean_square(at, size, share, to, factor)
    if not square <= MOST_VARIANCE:
        factor = SHRUNK
        square = _mean_square_again(at, size, share, to)
    return factor, inverse_deviation(square, epsilon, factor)


@register_jitable
def _project_whole_again(normals: int, at: int, size: int, factor: np.float32) -> np.float32:
    return _products(normals, at, size, factor, _ZERO)[1]


@register_jitable(forceinline=True)
def project_whole(
    normals: int, at: int, size: int, share: np.float32, own: np.float32
) -> tuple[np.float32, np.float32]:
    """Return a factor f' for the tangents dx, and mean(x̂ f' dx). The arguments are those of :func:`project`."""
    dot = _products(normals, at, size, own, _ZERO)[1]
    if own > TANGENT_SHRUNK and not np.isfinite(dot):
        own = TANGENT_SHRUNK
        dot = _project_whole_again(normals, at, size, own)
    return own, dot * share
