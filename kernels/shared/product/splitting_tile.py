"""Register tiles of float32 operands whose factors are bfloat16: each splits what it reads, block by block.

They take the place of register tiles where operands are not split beforehand. Splitting rows and panels anew for every
tile takes about as long as their product does, so that the operations that matter most split each operand once, see
:mod:`fgnumba.kernels.shared.product.dot_tiles`.
"""

from collections.abc import Callable
from functools import cache

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


@cache
def splitting_tile(
    isa: InstructionSet, rows: int, panels: int, weights: bool, entries: str | None, precision: str
) -> Callable[..., None]:
    """Return a function for kernels with the arguments of :func:`fgnumba.kernels.emit.product_tile` up to `onto`.

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
    row_words, panel_words = BLOCK // 2, BLOCK // 2 * PANEL
    a_part, w_part = rows * row_words, panel_words
    size = 4 * (parts * (a_part + w_part) + BLOCK * (PANEL + 1)) + 8
    split, pack = dot_tiles.splitter(isa, precision), dot_tiles.packer(isa, precision)
    dots = dot_tiles.product(isa, rows, 1, precision)
    depth, signs = dot_tiles.DEPTH[isa.dots], entries == "signs"
    given = entries is not None

    @register_jitable
    def gather(segments: int, offsets: int, length: int, row: int, k: int, n: int, out: int) -> int:
        """Return the address of elements k to k + n of a row: where they lie, or `out`, where they are copied."""
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
    def term(
        segments: int,
        offsets: int,
        length: int,
        a: int,
        ld: int,
        w: int,
        w_row: int,
        w_stride: int,
        drawn: bool,
        k: int,
        n: int,
        memory: int,
        out: int,
        onto: int,
    ) -> None:
        """Add the product of a block of K."""
        at_panel = memory + 4 * parts * a_part
        at_floats = at_panel + 4 * parts * w_part
        at_zero = at_floats + 4 * BLOCK * (PANEL + 1)
        carray(pointer(at_zero, np.int64), 1)[0] = 0
        for m in range(rows):
            row = gather(segments, offsets, length, a + m * ld * 4, k, n, at_floats)
            split(n, row, memory + m * row_words * 4, 4 * a_part)
        words = (n + depth - 1) // depth * depth // 2
        for panel in range(panels):
            source = w + panel * w_stride * 4 + k * w_row
            if drawn:
                expand(n, source, at_floats)
                source = at_floats
            pack(n, source, at_panel, 4 * w_part)
            if panels == 1:
                dots(1, at_zero, words, memory, a_part, row_words, at_panel, w_part, 0, out, onto)
            else:
                sums = carray(pointer(out, np.float32), (rows, panels, PANEL))
                one = carray(pointer(at_floats, np.float32), (rows, PANEL))
                if onto != 0:
                    for m in range(rows):
                        for lane in range(PANEL):
                            one[m, lane] = sums[m, panel, lane]
                dots(1, at_zero, words, memory, a_part, row_words, at_panel, w_part, 0, at_floats, onto)
                for m in range(rows):
                    for lane in range(PANEL):
                        sums[m, panel, lane] = one[m, lane]

    @register_jitable
    def expand(n: int, words: int, out: int) -> None:
        """Write rows of signs, a word for each, as numbers."""
        bits = carray(pointer(words, np.uint32), n)
        numbers = carray(pointer(out, np.uint32), (n, PANEL))
        for k in range(n):
            for lane in range(PANEL):
                numbers[k, lane] = _ONE | (((bits[k] >> np.uint32(lane)) & np.uint32(1)) << np.uint32(31))

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
    ) -> None:
        memory = stack(size)
        inputs = segments * length
        for k in range(0, inputs, BLOCK):
            n = min(BLOCK, inputs - k)
            row = (segments, offsets, length)
            if weights:
                term(*row, a, ld, w, PANEL * 4, w_stride, False, k, n, memory, out, onto)
                onto = 1
            if given:
                term(*row, c, ld, v, 4 if signs else PANEL * 4, v_stride, signs, k, n, memory, out, onto)
                onto = 1

    return tile
