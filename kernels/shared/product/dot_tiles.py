"""Tiles of products whose factors are bfloat16: how operands lie in memory, and what is compiled for a precision.

Rows of x are split element by element and stay rows, so that K neighbouring elements are neighbours. A panel of W is
split and packed as (K / together, PANEL, together), see :data:`TOGETHER`. Both are filled up with zeros to a multiple
of :data:`DEPTH` elements of K. The parts of an operand lie one after the other, see
:mod:`fgnumba.kernels.emit.precision`.

Distances are counted in words of 4 bytes, which hold two neighbouring elements of a row, or of a column of a panel.
"""

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import matrix_tile, pointer, product_tile
from fgnumba.kernels.emit.bfloat16 import pack_rows, split_row
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import round_up

TILE_KINDS = 3
"""Columns of a table of tiles, see :mod:`fgnumba.kernels.shared.product.register_tiles`."""

TOGETHER = {"pairs": 2, "tiles": 2, "quads": 4}
"""How many neighbouring rows of a packed panel lie side by side, by the way of multiplying."""

DEPTH = {"pairs": 2, "tiles": 32, "quads": 8}
"""The number of elements of K that both operands are filled up to a multiple of, by the way of multiplying."""

TALLEST = {"pairs": 0, "tiles": 32, "quads": 0}
"""Rows of the tallest tile, by the way of multiplying. 0: as many as a tile of float32."""


def tallest(isa: InstructionSet) -> int:
    """Return the number of rows of the tallest tile of bfloat16."""
    return TALLEST[isa.dots] or isa.max_rows


def converts(isa: InstructionSet) -> bool:
    """Whether the processor has an instruction that rounds to bfloat16, and may use it."""
    return isa.dots in ("pairs", "tiles") and not isa.twin


def padded(isa: InstructionSet, inputs: int) -> int:
    """Return K filled up: the elements that a row of x, or a column of a packed panel, takes."""
    return round_up(inputs, DEPTH[isa.dots])


@cache
def splitter(isa: InstructionSet, precision: str) -> Callable[..., None]:
    """Return a function for kernels that splits a row: ``(n, x, out, out_part)``, all int64.

    It writes `n` elements, and zeros up to the next multiple of ``DEPTH``. `x` is the address of n float32, and `out`
    that of the first part; `out_part` are the bytes from one part to the next.
    """
    lanes, parts, depth = isa.lanes, PRECISIONS[precision].parts, DEPTH[isa.dots]
    many, one = split_row(lanes, parts, converts(isa)), split_row(1, parts, False)

    @register_jitable
    def split(n: int, x: int, out: int, out_part: int) -> None:
        whole = n // lanes
        if whole > 0:
            many(whole, x, out, out_part)
        if n > whole * lanes:
            one(n - whole * lanes, x + whole * lanes * 4, out + whole * lanes * 2, out_part)
        if n % depth > 0:
            for part in range(parts):
                rest = carray(pointer(out + part * out_part + n * 2, np.uint16), depth - n % depth)
                for i in range(depth - n % depth):
                    rest[i] = 0

    return split


@cache
def packer(isa: InstructionSet, precision: str) -> Callable[..., None]:
    """Return a function for kernels that splits and packs a panel: ``(n, w, out, out_part)``, all int64.

    It writes `n` rows, and zeros up to the next multiple of ``DEPTH``. `w` is the address of (n, PANEL) float32, and
    `out` that of the first part; `out_part` are the bytes from one part to the next.
    """
    lanes, parts = isa.lanes, PRECISIONS[precision].parts
    depth, together = DEPTH[isa.dots], TOGETHER[isa.dots]
    whole = pack_rows(lanes, parts, together, together, converts(isa))
    rests = [pack_rows(lanes, parts, together, present, converts(isa)) for present in range(1, together)]
    rest_1, rest_2, rest_3 = (*rests, *[rests[0]] * (3 - len(rests)))

    @register_jitable
    def pack(n: int, w: int, out: int, out_part: int) -> None:
        blocks = n // together
        if blocks > 0:
            whole(blocks, w, out, out_part)
        w += blocks * together * PANEL * 4
        at = out + blocks * together * PANEL * 2
        left = n - blocks * together
        if left == 1:
            rest_1(1, w, at, out_part)
        elif left == 2:
            rest_2(1, w, at, out_part)
        elif left == 3:
            rest_3(1, w, at, out_part)
        filled = (n + together - 1) // together * together
        size = ((n + depth - 1) // depth * depth - filled) * PANEL
        if size > 0:
            for part in range(parts):
                zeros = carray(pointer(out + part * out_part + filled * PANEL * 2, np.uint16), size)
                for i in range(size):
                    zeros[i] = 0

    return pack


@cache
def product(
    isa: InstructionSet, rows: int, panels: int, precision: str, width: int = PANEL
) -> Callable[..., None]:
    """Return a function for kernels that computes a tile of a product of packed operands.

    It takes ``(segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto)``, all int64:

    - segments, offsets, length: a row of a is `segments` runs of `length` words; `offsets` is the address of `segments`
      int64, the words from the row's address to each run. A run is a multiple of ``DEPTH`` elements;
    - a, a_part, ld: address of row 0 of a, and words to its next part and to the next row;
    - w, w_part, w_stride: address of the first packed panel, and words to its next part and to the next panel;
    - out, onto: as for :func:`fgnumba.kernels.emit.product_tile`.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set.
    rows, panels : int
        Rows of a and panels of W that the tile spans.
    precision : str
        The precision, one with parts.
    width : int
        Columns of each panel that are computed, a multiple of the lanes. More may be written.
    """
    terms = PRECISIONS[precision].terms
    if isa.dots == "pairs":
        pairs = product_tile(isa, rows, panels, True, None, width, terms=terms)

        @register_jitable
        def product_of_pairs(
            segments: int,
            offsets: int,
            length: int,
            a: int,
            a_part: int,
            ld: int,
            w: int,
            w_part: int,
            w_stride: int,
            out: int,
            onto: int,
        ) -> None:
            pairs(segments, offsets, length, a, a_part, ld, w, w_stride, w_part, 0, out, onto, 0, 0)

        return product_of_pairs
    return _product_by_runs(isa, rows, panels, precision)


def _product_by_runs(isa: InstructionSet, rows: int, panels: int, precision: str) -> Callable[..., None]:
    """Return a product of AMX's tiles, which take one run and one panel at a time."""
    tile = matrix_tile(rows, PRECISIONS[precision].terms, isa.twin)

    @register_jitable
    def product_of_tiles(
        segments: int,
        offsets: int,
        length: int,
        a: int,
        a_part: int,
        ld: int,
        w: int,
        w_part: int,
        w_stride: int,
        out: int,
        onto: int,
    ) -> None:
        starts = carray(pointer(offsets, np.int64), segments)
        steps = length // 16
        for s in range(segments):
            run = a + starts[s] * 4
            for panel in range(panels):
                at = w + (panel * w_stride + s * length * PANEL) * 4
                sums = out + panel * PANEL * 4
                tile(steps, run, a_part * 4, ld * 4, at, w_part * 4, sums, panels * PANEL * 4, onto)
            onto = 1

    return product_of_tiles


def dot_table(
    isa: InstructionSet, heights: Iterable[int], group: int, precision: str, last_columns: int = PANEL
) -> npt.NDArray[np.int64]:
    """Return the addresses of tiles by height, (``tallest(isa)`` + 1, ``TILE_KINDS``) int64.

    They are kernels that take the arguments of :func:`product`. The columns are those of
    :func:`fgnumba.kernels.shared.product.register_tiles.tile_table`.
    """
    table = np.zeros((tallest(isa) + 1, TILE_KINDS), np.int64)
    last = round_up(last_columns, isa.lanes)
    for rows in heights:
        for kind, (panels, width) in enumerate(((1, PANEL), (group, PANEL), (1, last))):
            name = (
                f"dot-tile-{isa.vectors}-{isa.dots}{'-twin' * isa.twin}-{rows}x{panels}x{width}-{precision}"
            )
            table[rows, kind] = kernel(name, _kernel(isa, rows, panels, precision, width), 11)
    return table


@cache
def _kernel(isa: InstructionSet, rows: int, panels: int, precision: str, width: int) -> Callable[..., None]:
    emitted = product(isa, rows, panels, precision, width)

    def dot_tile(
        segments: int,
        offsets: int,
        length: int,
        a: int,
        a_part: int,
        ld: int,
        w: int,
        w_part: int,
        w_stride: int,
        out: int,
        onto: int,
    ) -> None:
        emitted(segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto)

    return dot_tile


@cache
def split_kernel(isa: InstructionSet, precision: str) -> int:
    """Return the address of a kernel that splits rows: ``(rows, n, x, ld, out, out_ld, out_part)``.

    `ld` are the float32 from one row to the next, `out_ld` and `out_part` words. Each row is written as by
    :func:`splitter`.
    """
    split = splitter(isa, precision)

    def split_rows(rows: int, n: int, x: int, ld: int, out: int, out_ld: int, out_part: int) -> None:
        for row in range(rows):
            split(n, x + row * ld * 4, out + row * out_ld * 4, out_part * 4)

    return kernel(f"split-rows-{isa.vectors}-{isa.dots}{'-twin' * isa.twin}-{precision}", split_rows, 7)


@cache
def pack_kernel(isa: InstructionSet, precision: str) -> int:
    """Return the address of a kernel that splits and packs a panel: ``(n, w, out, out_part)``, see :func:`packer`.

    Here, `out_part` are words.
    """
    pack = packer(isa, precision)

    def pack_panel(n: int, w: int, out: int, out_part: int) -> None:
        pack(n, w, out, out_part * 4)

    return kernel(f"pack-panel-{isa.vectors}-{isa.dots}{'-twin' * isa.twin}-{precision}", pack_panel, 4)
