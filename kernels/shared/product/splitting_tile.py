"""Register tiles of float32 operands whose factors are bfloat16: each splits what it reads, block by block.

They take the place of register tiles where operands are not split beforehand. Splitting rows and panels anew for every
tile takes about as long as their product does, so that the operations that matter most split each operand once, see
:mod:`fgnumba.kernels.shared.product.dot_tiles`.
"""

from collections.abc import Callable

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer, stack
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.shared.product import dot_tiles

BLOCK = 256
"""Elements of K that are split at a time. The parts of a block's rows, and of its panel, lie on the thread's stack."""

_ONE = np.uint32(0x3F800000)


def splitting_tile(
    isa: InstructionSet, rows: int, panels: int, weights: bool, entries: str | None, precision: str
) -> Callable[..., None]:
    """Return a kernel with the arguments of :func:`fgnumba.kernels.emit.product_tile`, all of them.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set.
    rows, panels, weights, entries : int, int, bool, str or None
        As for :func:`fgnumba.kernels.emit.product_tile`.
    precision : str
        The precision, one with parts.
    """
    parts = PRECISIONS[precision].parts
    row_words, w_part = BLOCK // 2, BLOCK // 2 * PANEL
    a_part, depth = rows * row_words, dot_tiles.DEPTH[isa.dots]
    at_panel = 4 * parts * a_part
    at_floats = at_panel + 4 * parts * w_part
    at_sums = at_floats + 4 * BLOCK * PANEL
    at_zero = at_sums + 4 * rows * PANEL
    size = at_zero + 8
    split, pack = dot_tiles.splitter(isa, precision), dot_tiles.packer(isa, precision)
    dots = dot_tiles.product(isa, rows, 1, precision)
    signs = entries == "signs"
    first, last = 0 if weights else 1, 2 if entries else 1

    def tile(
        segments: int,
        offsets: int,
        length: int,
        a: int,
        c: int,
        ld: int,
        w: int,
        w_stride: int,
        v: int,
        v_stride: int,
        out: int,
        onto: int,
        following: int,
        step: int,
    ) -> None:
        memory = stack(size)
        carray(pointer(memory + at_zero, np.int64), 1)[0] = 0
        inputs = segments * length
        for k in range(0, inputs, BLOCK):
            n = min(BLOCK, inputs - k)
            words = (n + depth - 1) // depth * depth // 2
            for term in range(first, last):
                x, source, stride = (a, w, w_stride) if term == 0 else (c, v, v_stride)
                for m in range(rows):
                    row = gathered(segments, offsets, length, x + m * ld * 4, k, n, memory + at_floats)
                    split(n, row, memory + m * row_words * 4, 4 * a_part)
                for panel in range(panels):
                    numbers = source + panel * stride * 4 + k * PANEL * 4
                    if signs and term == 1:
                        write_signs(n, source + panel * stride * 4 + k * 4, memory + at_floats)
                        numbers = memory + at_floats
                    pack(n, numbers, memory + at_panel, 4 * w_part)
                    sums = out
                    if panels > 1:
                        sums = memory + at_sums
                        copy_columns(rows, out + panel * PANEL * 4, panels * PANEL, sums, PANEL)
                    dots(
                        *(1, memory + at_zero, words, memory, a_part, row_words),
                        *(memory + at_panel, w_part, 0, sums, onto),
                    )
                    if panels > 1:
                        copy_columns(rows, sums, PANEL, out + panel * PANEL * 4, panels * PANEL)
                onto = 1

    return tile


@register_jitable
def gathered(segments: int, offsets: int, length: int, row: int, k: int, n: int, out: int) -> int:
    """Return the address of elements k to k + n of a row: where they lie, or `out`, where they are copied to."""
    starts = carray(pointer(offsets, np.int64), segments)
    if segments == 1:
        return row + (starts[0] + k) * 4
    copy = carray(pointer(out, np.float32), n)
    done = 0
    while done < n:
        s, i = (k + done) // length, (k + done) % length
        run = min(length - i, n - done)
        source = carray(pointer(row + (starts[s] + i) * 4, np.float32), run)
        for j in range(run):
            copy[done + j] = source[j]
        done += run
    return out


@register_jitable
def write_signs(n: int, words: int, out: int) -> None:
    """Write n rows of signs, a word for each, as numbers."""
    bits = carray(pointer(words, np.uint32), n)
    numbers = carray(pointer(out, np.uint32), (n, PANEL))
    for k in range(n):
        for lane in range(PANEL):
            numbers[k, lane] = _ONE | (((bits[k] >> np.uint32(lane)) & np.uint32(1)) << np.uint32(31))


@register_jitable
def copy_columns(rows: int, source: int, source_ld: int, target: int, target_ld: int) -> None:
    """Copy a panel of columns of some rows, whose distances are given in elements."""
    for m in range(rows):
        values = carray(pointer(source + m * source_ld * 4, np.float32), PANEL)
        copy = carray(pointer(target + m * target_ld * 4, np.float32), PANEL)
        for lane in range(PANEL):
            copy[lane] = values[lane]
