"""Copies between operands, whose strides are anything, and the rows and panels in scratch memory."""

from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, lane_sums, pointer, row_dots, scaled_rows
from fgnumba.kernels.emit.rows import LANES
from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.ops.example_panels import cpu as example_panels


@cache
def transpose(isa: InstructionSet, wide: bool) -> int:
    """Return the address of a kernel that transposes a matrix: that of the example panels, or its like in float64."""
    if not wide:
        return example_panels.transpose(isa)

    def transpose_wide(rows: int, columns: int, x: int, x_ld: int, y: int, y_ld: int) -> None:
        ys = carray(pointer(y, np.float64), (columns, y_ld))
        for i in range(rows):
            xs = carray(pointer(x + i * x_ld * 8, np.float64), columns)
            for j in range(columns):
                ys[j, i] = xs[j]

    return kernel("transpose-wide", transpose_wide, 6)


@register_jitable
def turn(a: Any, source: int, row: int, n: int, size: int, out: int) -> None:
    """Write `n` rows of `size` elements as panels, in which each row is a column."""
    for j in range(0, n, a.panel):
        columns = min(a.panel, n - j)
        call(a.transpose, (columns, size, source + j * row * a.item, row, out + j * size * a.item, a.panel))


@cache
def scaler(wide: bool, added: bool) -> int:
    """Return the address of a kernel that multiplies rows, whose arguments ``emit.scaled_rows`` describes.

    It takes any number of columns.
    """
    emitted, number = scaled_rows(wide, added), np.float64 if wide else np.float32
    lanes = LANES[8 if wide else 4]

    def scale(
        rows: int,
        columns: int,
        a: int,
        a_row: int,
        f: int,
        f_step: int,
        b: int,
        b_row: int,
        g: int,
        out: int,
        out_row: int,
        finite: int,
    ) -> None:
        if columns >= lanes:
            emitted(rows, columns, a, a_row, f, f_step, b, b_row, g, out, out_row, finite)
            return
        xs, to = carray(pointer(a, number), rows * a_row), carray(pointer(out, number), rows * out_row)
        factors = carray(pointer(f, number), rows)
        more, others = carray(pointer(b, number), rows * b_row), carray(pointer(g, number), rows)
        for r in range(rows):
            for c in range(columns):
                x = xs[r * a_row + c]
                to[r * out_row + c] = x * factors[r * f_step]
                if added:
                    to[r * out_row + c] += more[r * b_row + c] * others[r]
                if x - x != number(0):
                    carray(pointer(finite, np.int64), 1)[0] = 0

    # Nothing is fused, as in the emitted rows.
    name = f"{'combine' if added else 'scale'}-rows-{64 if wide else 32}"
    return kernel(name, scale, 12, fastmath={"nsz"})


@cache
def summer(wide: bool) -> int:
    """Return the address of a kernel that sums lanes, whose arguments ``emit.lane_sums`` describes."""
    emitted = lane_sums(wide)

    def sums(rows: int, a: int, out: int) -> None:
        emitted(rows, a, out)

    return kernel(f"lane-sums-{64 if wide else 32}", sums, 3)


@cache
def dotter(wide: bool) -> int:
    """Return the address of a kernel that dots rows, whose arguments ``emit.row_dots`` describes.

    It takes any number of columns.
    """
    emitted, number = row_dots(wide), np.float64 if wide else np.float32
    lanes = LANES[8 if wide else 4]

    def dots(rows: int, columns: int, a: int, a_row: int, b: int, b_row: int, out: int) -> None:
        if columns >= lanes:
            emitted(rows, columns, a, a_row, b, b_row, out)
            return
        xs, ys = carray(pointer(a, number), rows * a_row), carray(pointer(b, number), rows * b_row)
        to = carray(pointer(out, number), rows)
        for r in range(rows):
            to[r] = number(0)
            for c in range(columns):
                to[r] += xs[r * a_row + c] * ys[r * b_row + c]

    return kernel(f"row-dots-{64 if wide else 32}", dots, 7)


@register_jitable
def copy_rows(a: Any, source: int, row: int, n: int, size: int, number: int, out: int) -> None:
    """Copy `n` rows of `size` elements, multiplied by number `number` of ``a.numbers``, to rows in scratch memory.

    The int64 at ``a.at_finite`` becomes 0 if an element is not finite.
    """
    factor, finite = a.numbers + number * a.item, a.scratch + a.at_finite
    call(a.scale_rows, (n, size, source, row, factor, 0, 0, 0, 0, out, a.distance, finite))
