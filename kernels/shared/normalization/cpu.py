"""What group normalisation computes of an image's channels, for its forward pass and for its reverse pass.

It keeps a table in scratch memory, whose vectors hold one float32 for each channel. They are the vectors that the
passes over pixels read and write (``emit.channels``), and INVERSE, which is 1 / √(σ² + ε). All channels of a group
have the same numbers there, except for the sums.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, channel_affine, channel_moments, pointer
from fgnumba.kernels.emit.channels import (
    CONSTANT,
    FACTOR,
    FIRST,
    GAIN,
    HIGH,
    LOW,
    OWN_FACTOR,
    OWN_GAIN,
    OWN_HIGH,
    OWN_LOW,
    SECOND,
    TABLE,
)
from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.rules.moments import (
    LEAST,
    MOST_VARIANCE,
    SHRUNK,
    TANGENT_SHRUNK,
    centred,
    inverse_deviation,
    mean_of,
    power_of_two,
    tangent_factor,
)

INVERSE = TABLE
_TOTALS = TABLE + 1

WORK_VECTORS = _TOTALS + 4
"""Number of vectors in the table. The last four hold two float64 sums for each channel."""

_ROWS, _COLUMNS = 16, 64
"""Height and width of the block of pixels that is summed in float32. Sums of these sums are float64."""

_ONE = np.float32(1)
_FAR = np.float32(2.0**100)
"""If a mean times ``_step``, or mean(d e), is larger than this, something may overflow."""


@register_jitable
def vector(a: Any, which: int) -> Any:
    """Return vector number `which` of the table."""
    return carray(pointer(a.scratch + which * a.padded * 4, np.float32), a.channels)


@register_jitable
def centre(a: Any, x: int, epsilon: np.float32) -> None:
    """Write the vectors FACTOR, HIGH, LOW and INVERSE for the image at the address x.

    The factors are powers of two that bring d to the size of x̂, and INVERSE to the order of 1 (``_step``). A product
    with either of them is then as large as a product with x̂.

    Parameters
    ----------
    a : record
        The kernel's arguments. Used are the image's height, width, channels, groups, x_row and x_pixel; scratch, the
        table's address; padded, the elements from one of its vectors to the next; and moments, see
        :func:`moments_entry`.
    x : int
        Address of the image.
    epsilon : float32
        ε.
    """
    factor, high, low, inverse = vector(a, FACTOR), vector(a, HIGH), vector(a, LOW), vector(a, INVERSE)
    values, each = carray(pointer(x, np.float32), a.channels), a.channels // a.groups
    factor[:] = _ONE
    again = True
    while again:
        for g in range(a.groups):
            pivot = values[g * each] * factor[g * each]
            for c in range(g * each, (g + 1) * each):
                high[c], low[c] = pivot, np.float32(0)
        _sums(a, x, 0)
        for g in range(a.groups):
            mean = mean_of(high[g * each], np.float32(_mean(a, 0, g)))
            for c in range(g * each, (g + 1) * each):
                high[c], low[c] = mean
        _sums(a, x, 0)
        again = False
        for g in range(a.groups):
            scale, left = factor[g * each], _mean(a, 0, g)
            variance = np.float32(_mean(a, 1, g) - left * left)
            low_left = np.float32(low[g * each] + np.float32(left))
            if scale == _ONE and not variance <= MOST_VARIANCE:
                scale, again = SHRUNK, True
            inverse_of_group = inverse_deviation(variance, epsilon, scale)
            for c in range(g * each, (g + 1) * each):
                factor[c], low[c], inverse[c] = scale, low_left, inverse_of_group
    for g in range(a.groups):
        step = _step(factor[g * each], high[g * each], inverse[g * each])
        left, sums, wide = _mean(a, 0, g) * a.height * a.width, sums_of_centred(a), np.float64(step)
        for c in range(g * each, (g + 1) * each):
            factor[c], high[c], low[c] = factor[c] * step, high[c] * step, low[c] * step
            inverse[c], sums[c] = inverse[c] / step, (sums[c] - left) * wide


@register_jitable
def sums_of_centred(a: Any) -> Any:
    """Return Σ d of each channel as float64. It is valid after ``centre`` and until ``project``."""
    return carray(pointer(a.scratch + _TOTALS * a.padded * 4, np.float64), a.channels)


@register_jitable
def _step(factor: np.float32, high: np.float32, inverse: np.float32) -> np.float32:
    """Return a power of two that brings the numbers of a factor and a mean near x̂.

    Usually `inverse` divided by it is from 1/4 to 1/2. The result differs if the factor would not stay normal, or the
    numbers not finite: only equal numbers can be that far from zero compared with their spread.
    """
    step = np.float32(4) * power_of_two(inverse)
    if abs(high) * step > _FAR:
        return _ONE
    return LEAST / factor if step * factor < LEAST else step


@register_jitable
def project(a: Any, x: int, dx: int) -> Any:
    """Write the vectors OWN_FACTOR, OWN_HIGH and OWN_LOW for the tangents at the address dx, after ``centre``.

    Returns
    -------
    vector
        mean(d e) over each channel's group. Times INVERSE, it is mean(x̂ f' dx).
    """
    factor, inverse, own = vector(a, FACTOR), vector(a, INVERSE), vector(a, OWN_FACTOR)
    high, low, dots = vector(a, OWN_HIGH), vector(a, OWN_LOW), vector(a, SECOND)
    values, each = carray(pointer(dx, np.float32), a.channels), a.channels // a.groups
    for c in range(a.channels):
        own[c] = tangent_factor(inverse[c], factor[c])
    again = True
    while again:
        for g in range(a.groups):
            pivot = values[g * each] * own[g * each]
            for c in range(g * each, (g + 1) * each):
                high[c], low[c] = pivot, np.float32(0)
        _sums(a, x, dx)
        again = False
        for g in range(a.groups):
            scale, dot = own[g * each], np.float32(_mean(a, 1, g))
            mean = mean_of(high[g * each], np.float32(_mean(a, 0, g)))
            if scale > TANGENT_SHRUNK and not (abs(dot) <= _FAR and np.isfinite(mean[0])):
                scale, again = TANGENT_SHRUNK, True
            for c in range(g * each, (g + 1) * each):
                own[c], dots[c] = scale, dot
                high[c], low[c] = mean
    return dots


@register_jitable
def _mean(a: Any, which: int, g: int) -> float:
    """Return the mean over a group of the first (`which` 0) or the second (1) sum that :func:`_sums` wrote."""
    each = a.channels // a.groups
    totals = carray(pointer(a.scratch + (_TOTALS + 2 * which) * a.padded * 4, np.float64), a.channels)
    total = np.float64(0)
    for c in range(g * each, (g + 1) * each):
        total += totals[c]
    return total / (each * a.height * a.width)


@register_jitable
def _sums(a: Any, x: int, dx: int) -> None:
    """Sum d and d² over the pixels for each channel, or e and d e if the address dx is not 0."""
    call(
        a.moments,
        (a.height, a.width, a.channels, x, dx, a.x_row, a.x_pixel, a.scratch, a.padded * 4),
    )


@cache
def moments_entry(isa: InstructionSet) -> int:
    """Return the address of a kernel that computes the sums of :func:`channel_moments` in float64.

    The kernel takes ``(rows, columns, channels, x, other, row, column, table, stride)``, any number of channels
    instead of vectors of channels. It uses x' if the address `other` is not 0.
    """
    squares, products = channel_moments(isa, tangent=False), channel_moments(isa, tangent=True)
    lanes = isa.lanes

    def moments(
        rows: int,
        columns: int,
        channels: int,
        x: int,
        other: int,
        row: int,
        column: int,
        table: int,
        stride: int,
    ) -> None:
        whole = channels // lanes
        first, second = _of(table, stride, FIRST, channels), _of(table, stride, SECOND, channels)
        totals = carray(pointer(table + _TOTALS * stride, np.float64), channels)
        others = carray(pointer(table + (_TOTALS + 2) * stride, np.float64), channels)
        for c in range(channels):
            totals[c] = others[c] = np.float64(0)
        for top in range(0, rows, _ROWS):
            for left in range(0, columns, _COLUMNS):
                height, width = min(_ROWS, rows - top), min(_COLUMNS, columns - left)
                at = (top * row + left * column) * 4
                if whole > 0 and other:
                    products(height, width, whole, x + at, other + at, row, column, table, stride)
                elif whole > 0:
                    squares(height, width, whole, x + at, 0, row, column, table, stride)
                for c in range(whole * lanes, channels):
                    first[c] = second[c] = np.float32(0)
                    for i in range(height):
                        sums = np.float32(0), np.float32(0)
                        for j in range(width):
                            place = at + (i * row + j * column + c) * 4
                            d = _difference(table, stride, FACTOR, c, x + place)
                            e = _difference(table, stride, OWN_FACTOR, c, other + place) if other else d
                            sums = sums[0] + e, sums[1] + d * e
                        first[c] += sums[0]
                        second[c] += sums[1]
                for c in range(channels):
                    totals[c] += np.float64(first[c])
                    others[c] += np.float64(second[c])

    return kernel(f"channel-moments-{isa.vectors}", moments, 9)


@cache
def write_entry(isa: InstructionSet) -> int:
    """Return the address of a kernel that runs :func:`channel_affine` for any number of channels.

    The kernel takes ``(rows, columns, channels, x, other, row, column, y, y_row, y_column, table, stride)``. It uses
    x' if the address `other` is not 0.
    """
    primal, dual = channel_affine(isa, tangent=False), channel_affine(isa, tangent=True)
    lanes = isa.lanes

    def write(
        rows: int,
        columns: int,
        channels: int,
        x: int,
        other: int,
        row: int,
        column: int,
        y: int,
        y_row: int,
        y_column: int,
        table: int,
        stride: int,
    ) -> None:
        whole = channels // lanes
        if whole > 0 and other:
            dual(rows, columns, whole, x, other, row, column, y, y_row, y_column, table, stride)
        elif whole > 0:
            primal(rows, columns, whole, x, 0, row, column, y, y_row, y_column, table, stride)
        gain, own_gain = _of(table, stride, GAIN, channels), _of(table, stride, OWN_GAIN, channels)
        constant = _of(table, stride, CONSTANT, channels)
        for c in range(whole * lanes, channels):
            for i in range(rows):
                for j in range(columns):
                    place = (i * row + j * column + c) * 4
                    total = constant[c]
                    if other:
                        total += own_gain[c] * _difference(table, stride, OWN_FACTOR, c, other + place)
                    out = carray(pointer(y + (i * y_row + j * y_column + c) * 4, np.float32), 1)
                    out[0] = gain[c] * _difference(table, stride, FACTOR, c, x + place) + total

    return kernel(f"channel-affine-{isa.vectors}", write, 12)


@register_jitable
def _of(table: int, stride: int, which: int, channels: int) -> Any:
    return carray(pointer(table + which * stride, np.float32), channels)


@register_jitable
def _difference(table: int, stride: int, rows: int, c: int, at: int) -> np.float32:
    """Return the number at an address times its factor, minus its mean.

    `rows` is the first of three neighbouring vectors of the table, ``FACTOR`` or ``OWN_FACTOR``.
    """
    factor, high, low = (
        _of(table, stride, rows, c + 1)[c],
        _of(table, stride, rows + 1, c + 1)[c],
        _of(table, stride, rows + 2, c + 1)[c],
    )
    return centred(carray(pointer(at, np.float32), 1)[0], factor, high, low)
