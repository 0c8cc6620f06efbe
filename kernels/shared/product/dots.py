"""Computes x·u for rank-1 directions V = u wᵀ, where x V = (x·u) wᵀ needs no other product.

If there are few directions, their vectors u are dotted with a row of x one by one. If there are many, the vectors u
become the columns of a weight panel, and the register tile computes all of their dots as one product. The rows are
those of the layer's own product: examples, or pixels.
"""

from collections.abc import Collection
from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.work import tile_count, tile_rows
from fgnumba.kernels.rules.directions import RANK1
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT, LEFT, STREAM
from fgnumba.kernels.shared.product.register_tiles import LAST, TILE_KINDS, tile_table

FIELDS = ("at_dots", "at_factors", "dot_stride", "dot_total", "dot_rows", "dot_tiles")

_ONE_BITS, _SIGN_BIT = np.uint32(0x3F800000), np.uint32(0x80000000)

MANY = 5
"""From this many directions on, a register tile as wide as a vector or more is faster than one dot at a time."""


def fields(
    isa: InstructionSet, kind: int, count: int, inputs: int, total: int, heights: Collection[int] = ()
) -> tuple[dict[str, int], dict[str, int], Any]:
    """Return the values of `FIELDS`, the bytes of scratch memory by field, and an object that must be kept alive.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    kind : int
        The kind of direction.
    count : int
        Number of directions T.
    inputs : int
        K, the number of rows of the weight.
    total : int
        Number of rows of x.
    heights : collection of int
        Heights of the register tiles that the rows are divided into. Empty: the dots are computed one by one.
    """
    if kind != RANK1:
        return {"dot_stride": 1}, {}, None
    if count < MANY or not heights:
        values = {"dot_stride": 1, "dot_total": total, "dot_rows": dot_rows()}
        return values, {"at_dots": count * total * 4}, None
    blocks = -(-count // PANEL)
    tiles = tile_table(isa, heights, 1, True, None, min(count, PANEL))
    values = {"dot_stride": PANEL, "dot_total": total, "dot_tiles": address(tiles)}
    return values, {"at_dots": blocks * total * PANEL * 4, "at_factors": inputs * PANEL * 4}, tiles


@register_jitable
def blocks(a: Any) -> int:
    """Return how many blocks of directions there are. The rows of x are read once for each."""
    return a.count if a.dot_stride == 1 else (a.count + PANEL - 1) // PANEL


@register_jitable
def at(a: Any, t: int, row: int) -> int:
    """Return the address of the dot of row `row` and direction `t`.

    The dots of the following rows are `dot_stride` elements apart.
    """
    if a.dot_stride == 1:
        return a.scratch + a.at_dots + (t * a.dot_total + row) * 4
    return a.scratch + a.at_dots + ((t // PANEL * a.dot_total + row) * PANEL + t % PANEL) * 4


@register_jitable
def draw(a: Any, block: int, draw_vector: Any) -> int:
    """Draw the vectors u of a block of directions, and return their address, which is valid until the next draw.

    Parameters
    ----------
    a : record
        The kernel's arguments, with `FIELDS`.
    block : int
        Number of the block.
    draw_vector : function
        ``product.draw_vector``, given as an argument because that module imports this one.
    """
    work = a.scratch + a.at_drawn
    n = (a.inputs + PANEL - 1) // PANEL * PANEL
    left = work + (n // PANEL + 63) // 64 * 256
    if a.dot_stride == 1:
        draw_vector(a, block, n, LEFT, a.parameter, work, left)
        return left
    # The words of all directions side by side: word r of a direction holds its signs of rows 32 r to 32 r + 31.
    words = carray(pointer(left, np.uint32), (n // PANEL, PANEL))
    drawn = carray(pointer(work, np.uint32), n // PANEL)
    stream = carray(pointer(a.stream, STREAM), 1)[0]
    for t in range(block * PANEL, min(a.count, (block + 1) * PANEL)):
        c2 = ((a.first + t) << DIRECTION_SHIFT) + a.parameter
        call(a.draw, (0, n // PANEL, 0, LEFT, c2, stream.step, stream.key_low, stream.key_high, work))
        for r in range(n // PANEL):
            words[r, t % PANEL] = drawn[r]
    factors = carray(pointer(a.scratch + a.at_factors, np.uint32), (a.inputs, PANEL))
    for k in range(a.inputs):
        shift = np.uint32(31 - k % PANEL)
        for lane in range(PANEL):
            factors[k, lane] = ((words[k // PANEL, lane] << shift) & _SIGN_BIT) | _ONE_BITS
    return a.scratch + a.at_factors


@register_jitable
def write(
    a: Any, block: int, u: int, rows: int, segments: int, offsets: int, length: int, x: int, ld: int, row: int
) -> None:
    """Write the dots of some rows of x with the vectors u of a block.

    Parameters
    ----------
    a : record
        The kernel's arguments, with `FIELDS`.
    block : int
        Number of the block.
    u : int
        Address that :func:`draw` returned.
    rows : int
        Number of rows.
    segments, offsets, length, x, ld : int
        Where the rows of x lie, as for a register tile, see :func:`fgnumba.kernels.emit.product_tile`.
    row : int
        Number of the first row's dot.
    """
    if a.dot_stride == 1:
        call(a.dot_rows, (rows, segments, offsets, length, x, ld, u, at(a, block, row)))
        return
    addresses = carray(pointer(a.dot_tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    count = tile_count(rows, a.tallest)
    first = 0
    for tile in range(count):
        height = tile_rows(rows, count, tile)
        operand = x + first * ld * 4
        out = at(a, block * PANEL, row + first)
        entry = addresses[TILE_KINDS * height + LAST]
        call(entry, (segments, offsets, length, operand, operand, ld, u, 0, 0, 0, out, 0))
        first += height


@cache
def dot_rows() -> int:
    """Return the address of a kernel that computes out[i] = x_i · u for several rows of x.

    The kernel takes ``(rows, segments, offsets, length, x, ld, u, out)``. A row of x lies as a register tile reads
    it. The order of the sum is left to the compiler, so that it can vectorise it. A row's result depends only on the
    row and on how it is divided into segments.
    """
    return kernel("dot-rows", _dot_rows, 8, fastmath={"contract", "nsz", "reassoc"})


def _dot_rows(rows: int, segments: int, offsets: int, length: int, x: int, ld: int, u: int, out: int) -> None:
    starts = carray(pointer(offsets, np.int64), segments)
    dots = carray(pointer(out, np.float32), rows)
    for i in range(rows):
        total = np.float32(0)
        for s in range(segments):
            xs = carray(pointer(x + (i * ld + starts[s]) * 4, np.float32), length)
            left = carray(pointer(u + s * length * 4, np.float32), length)
            for j in range(length):
                total += xs[j] * left[j]
        dots[i] = total


def factor_bytes(inputs: int) -> int:
    """Return how many bytes drawing u takes, including the u that is drawn."""
    return directions.draw_bytes(RANK1, -(-inputs // PANEL)) + -(-inputs // PANEL) * PANEL * 4
