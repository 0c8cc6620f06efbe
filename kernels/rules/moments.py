"""Means and variances of float32 numbers to float32's own accuracy, whatever their mean and their size.

E x² - (E x)² loses everything where the mean is large beside the spread, and the mean itself, rounded to float32, is
wrong by more than the spread may be: 3·10⁷ + {0, 2, 4} has a mean that is right to 1. So, for everything that is
normalised together (a unit):

1. Numbers are taken relative to one of them, p. x - p is exact where the two are within a factor of two of each other,
   and else rounded by U |x - p|. Sums of at most ``RUN`` of these are float32, sums of sums float64.
2. The mean, p + Σ (x - p) / n, is kept as two float32, high and low. (x - high) - low is wrong by 2 U of itself.
3. Σ d and Σ d² of d = (x - high) - low. The mean of d is what the mean was wrong by, up to U |mean - p|, which is
   much where p is an outlier; it is taken from d. The variance is E d² - (E d)², the second part next to nothing.

Squares of float32 numbers may overflow (from 2⁶⁴ on), and so may sums and differences. A unit in which something may
have is done again, all its numbers times ``SHRUNK``, a power of two; ε takes its square. What is not finite then is
not: an infinity or NaN among the numbers makes all of them NaN.

Tangents are taken times a power of two too, next to 1 / √(σ² + ε) where that is below 1 (``tangent_factor``): what is
computed of them is then of the size of the result, and overflows or is subnormal only where that is. Sums of many may
overflow all the same; then they are done again times ``TANGENT_SHRUNK``.

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
"""A larger one, or NaN, may be of squares that overflowed."""

SHRUNK = np.float32(2.0**-90)
"""Brings numbers of any size below 2³⁹, whose squares have room for 2³¹ of them; a deviation of 2⁴⁰ is still 2⁻⁵⁰."""

TANGENT_SHRUNK = np.float32(2.0**-64)
"""Brings tangents of any size below 2⁶⁵: times numbers of up to 2⁴⁰, 2²³ of them can be added up."""

LEAST_EPSILON = 2.0**-100
"""The least ε that a normalisation takes, 8·10⁻³¹: squares below 2⁻¹²⁶ count as zero, and must be nothing beside it;
and 1 / √ε is at most 2⁵⁰."""

LEAST = np.float32(2.0**-126)
"""The least normal number."""

RUN = 1024
"""Numbers whose sum is a float32."""

RUN_OF_PRODUCTS = 256
"""The same of products with x̂, one of which may be as large as all others together: each of these is then rounded by U
of that, and as like as not all in one direction."""

_ZERO = np.float32(0)
_ORDERED = {"contract", "nsz"}
_ANY_ORDER = {"contract", "nsz", "reassoc"}


@register_jitable(forceinline=True, fastmath=_ORDERED)
def apart(x: np.float32, factor: np.float32, pivot: np.float32) -> np.float32:
    """Return f x - p. Sums of this may be taken in any order, but this difference is taken first."""
    return x * factor - pivot


@register_jitable(forceinline=True, fastmath=_ORDERED)
def centred(x: np.float32, factor: np.float32, high: np.float32, low: np.float32) -> np.float32:
    """Return f x less the mean, high + low, in this order."""
    return (x * factor - high) - low


@scalar
def mean_of(pivot: np.float32, difference: np.float32) -> tuple[np.float32, np.float32]:
    """Return p + m as two float32, right to 2 U |m|: exactly where |m| <= |p| (T. J. Dekker's sum)."""
    high = np.float32(pivot + difference)
    return high, np.float32(difference - np.float32(high - pivot))


@scalar
def inverse_deviation(variance: np.float32, epsilon: np.float32, factor: np.float32) -> np.float32:
    """Return 1 / √(σ² + ε) of numbers times a factor, whose variance is σ²."""
    # A rounding may have left less than nothing.
    positive = np.float32(0) if variance < np.float32(0) else variance
    return np.float32(1) / np.float32(math.sqrt(np.float32(positive + epsilon * (factor * factor))))


@scalar
def power_of_two(x: np.float32) -> np.float32:
    """Return the largest power of two that is at most x, a normal float32 above 0."""
    return np.float32(np.int32(np.float32(x).view(np.int32) & np.int32(0x7F800000)).view(np.float32))


@scalar
def tangent_factor(inverse: np.float32, factor: np.float32) -> np.float32:
    """Return f' <= min(r, 1) < 2 f', a power of two, of r = 1 / √(σ² + ε): `inverse` is that of numbers times `factor`.

    At least the least normal number: r itself may be subnormal.
    """
    one, r = np.float32(1), np.float32(inverse * factor)
    # NaN is no factor; it is in x̂.
    bounded = r if r < one else one
    return power_of_two(bounded if bounded > LEAST else LEAST)


@register_jitable(forceinline=True)
def _run(at: int, start: int, size: int, most: int = RUN) -> Any:
    """Return the run of a row of float32 at an address that begins with its element `start`.

    An array of its own: an index from `start` on might be negative for all that the compiler knows, which keeps a loop
    scalar.
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
    """Return Σ (f x - p) of a row at an address."""
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
    """Return Σ d and Σ d² of d = (f x - high) - low, which is written to the row at `to`."""
    first, first_square = _run_of_squares(_run(at, 0, size), factor, high, low, _run(to, 0, size))
    if size <= RUN:
        return first, first_square
    total, square = np.float64(first), np.float64(first_square)
    for start in range(RUN, size, RUN):
        x, out = _run(at, start, size), _run(to, start, size)
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
    """Return Σ e and Σ x̂ e of e = f x - p, x̂ at the address `normals`."""
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
    """Write d to the row at `to`; return its mean, and the variance of f x."""
    pivot = carray(pointer(at, np.float32), 1)[0] * factor
    high, low = mean_of(pivot, _differences(at, size, factor, pivot) * share)
    total, square = _squares(at, size, factor, high, low, to)
    left = total * share
    return left, square * share - left * left


@register_jitable
def _centre_again(at: int, size: int, share: np.float32, to: int) -> tuple[np.float32, np.float32]:
    # A function of its own, that is not part of every row's: there the factor is 1, and costs nothing.
    return _centre(at, size, share, to, SHRUNK)


@register_jitable(forceinline=True)
def centre(
    at: int, size: int, share: np.float32, epsilon: np.float32, to: int
) -> tuple[np.float32, np.float32, np.float32]:
    """Write d of the row x at an address, which is f x less its mean but for a rounding, to that at `to`, both float32.

    Return the factor f, the mean of d, and 1 / √(σ² + ε) of numbers times f. `share`: 1 / `size`.
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
    """Return a factor f' of the tangents dx at an address, their mean times it as two float32, and mean(x̂ f' dx).

    `normals`: the address of x̂; `share`: 1 / `size`; `own`: :func:`tangent_factor` of the row, which is f' unless sums
    overflow.
    """
    found = _project(normals, at, size, share, own)
    if own > TANGENT_SHRUNK and not (np.isfinite(found[1]) and np.isfinite(found[3])):
        found = _project_again(normals, at, size, share, TANGENT_SHRUNK)
    return found
