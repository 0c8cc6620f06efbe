"""Tiles of products whose factors are bfloat16: how operands lie in memory, and what is compiled for a precision.

Rows of x are split element by element and stay rows, so that K neighbouring elements are neighbours. A panel of W is
split and packed as (K / together, PANEL, together), see :data:`TOGETHER`. Both are filled up with zeros to a multiple
of :data:`DEPTH` elements of K. The parts of an operand lie one after the other, see
:mod:`fgnumba.kernels.emit.precision`.

Distances are counted in words of 4 bytes, which hold two neighbouring elements of a row, or of a column of a panel.
"""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.emit import matrix_tile, product_tile, quad_tile
from fgnumba.kernels.emit.bfloat16 import pack_rows, split_row
from fgnumba.kernels.emit.matrix_tile import GROUP_ROWS, configured
from fgnumba.kernels.emit.precision import EXACT, FLOAT32, PRECISIONS
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import round_up
from fgnumba.kernels.shared.product.register_tiles import TILE_KINDS

TOGETHER = {"pairs": 2, "tiles": 2, "quads": 4}
"""How many neighbouring rows of a packed panel lie side by side, by the way of multiplying."""

DEPTH = {"pairs": 2, "tiles": 32, "quads": 4}
"""The number of elements of K that both operands are filled up to a multiple of, by the way of multiplying."""

TALLEST = {"pairs": 0, "tiles": 32, "quads": 8}
"""Rows of the tallest tile, by the way of multiplying. 0: as many as a tile of float32."""


LEAST_ROWS, LEAST_PANELS = 32, 4
"""Rows and panels from which on a dense product in three parts, by tiles, is faster than in float32, which is as exact:
splitting a row takes as long as multiplying it with three panels, and packing a panel as long as twenty rows."""


def takes_float(isa: InstructionSet) -> bool:
    """Whether float32 may stand for the precisions of `isa`: tiles multiply three parts, which are as exact.

    Other sets multiply three parts only where somebody asks for it.
    """
    return isa.dots == "tiles" and {isa.precision, isa.tangent_precision} - {FLOAT32} == {EXACT}


def float_is_faster(isa: InstructionSet, rows: int, panels: int) -> bool:
    """Whether float32 stands for the precisions of `isa` in a product of so many rows and panels, see `LEAST_ROWS`."""
    return takes_float(isa) and (rows < LEAST_ROWS or panels < LEAST_PANELS)


def tallest(isa: InstructionSet) -> int:
    """Return the number of rows of the tallest tile of bfloat16."""
    return TALLEST[isa.dots] or isa.max_rows


def converts(isa: InstructionSet) -> bool:
    """Whether the processor has an instruction that rounds to bfloat16, and may use it."""
    return isa.dots in ("pairs", "tiles") and not isa.twin


def padded(isa: InstructionSet, inputs: int) -> int:
    """Return K filled up: the elements that a row of x, or a column of a packed panel, takes."""
    return round_up(inputs, DEPTH[isa.dots])


# Kernels close over intrinsics alone, not over compiled functions that are made anew for each precision: Numba names
# those by a counter of the process, and the names in a kernel from the disk cache may be those of others in this one.


def splitter(isa: InstructionSet, precision: str, grouped: bool = False) -> Callable[..., None]:
    """Return an intrinsic that splits a row, see :func:`fgnumba.kernels.emit.bfloat16.split_row`."""
    depth = DEPTH[isa.dots]
    piece = GROUP_ROWS * 2 * depth if grouped else None
    return split_row(isa.lanes, PRECISIONS[precision].parts, depth, converts(isa), piece)


def packer(isa: InstructionSet, precision: str) -> Callable[..., None]:
    """Return an intrinsic that splits and packs a panel, see :func:`fgnumba.kernels.emit.bfloat16.pack_rows`."""
    return pack_rows(
        isa.lanes, PRECISIONS[precision].parts, TOGETHER[isa.dots], DEPTH[isa.dots], converts(isa)
    )


def product(
    isa: InstructionSet, rows: int, panels: int, precision: str, width: int = PANEL, grouped: bool = False
) -> Callable[..., None]:
    """Return an intrinsic that computes a tile of a product of packed operands.

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
    grouped : bool
        Whether rows are stored in groups, see :func:`fgnumba.kernels.emit.matrix_tile`. Only where `isa` reads tiles.
    """
    terms = PRECISIONS[precision].terms
    # What is compiled does not depend on the other precision.
    isa = isa.multiplying(FLOAT32)
    if isa.dots == "pairs":
        return product_tile(isa, rows, panels, True, None, width, terms=terms)
    if isa.dots == "quads":
        return quad_tile(isa, rows, panels, width, terms)
    return matrix_tile(rows, panels, terms, isa.twin, grouped)


def dot_table(
    isa: InstructionSet,
    heights: Iterable[int],
    group: int,
    precision: str,
    last_columns: int = PANEL,
    grouped: bool = False,
) -> npt.NDArray[np.int64]:
    """Return the addresses of tiles by height, (``tallest(isa)`` + 1, ``TILE_KINDS``) int64.

    They are kernels that take the arguments of :func:`product`. The columns are those of
    :func:`fgnumba.kernels.shared.product.register_tiles.tile_table`.
    """
    table = np.zeros((tallest(isa) + 1, TILE_KINDS), np.int64)
    last = round_up(last_columns, isa.lanes)
    for rows in heights:
        for kind, (panels, width) in enumerate(((1, PANEL), (group, PANEL), (1, last))):
            shape = f"{rows}x{panels}x{width}{'-grouped' * grouped}"
            name = f"dot-tile-{_named(isa)}-{shape}-{precision}"
            table[rows, kind] = kernel(name, _kernel(isa, rows, panels, precision, width, grouped), 11)
    return table


def _named(isa: InstructionSet) -> str:
    return f"{isa.vectors}-{isa.dots}{'-twin' * isa.twin}"


def _kernel(
    isa: InstructionSet, rows: int, panels: int, precision: str, width: int, grouped: bool
) -> Callable[..., None]:
    emitted = product(isa, rows, panels, precision, width, grouped)

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


def configuration_table(isa: InstructionSet, heights: Iterable[int]) -> npt.NDArray[np.int64]:
    """Return the addresses of kernels that configure tiles for products in groups, by height.

    The first gives the tiles back. They take one argument, which does not matter, see
    :func:`fgnumba.kernels.emit.matrix_tile.configured`.
    """
    table = np.zeros(tallest(isa) + 1, np.int64)
    for rows in {0, *heights}:
        table[rows] = kernel(f"configure-{_named(isa)}-{rows}", _configuring(rows, isa.twin), 1)
    return table


def _configuring(rows: int, twin: bool) -> Callable[[int], None]:
    emitted = configured(rows, twin)

    def configure(nothing: int) -> None:
        emitted()

    return configure


def split_kernel(isa: InstructionSet, precision: str) -> int:
    """Return the address of a kernel that splits rows: ``(rows, n, x, ld, out, out_ld, out_part)``.

    `ld` are the float32 from one row to the next, `out_ld` and `out_part` words. Each row is written as by
    :func:`splitter`.
    """
    split = splitter(isa, precision)

    def split_rows(rows: int, n: int, x: int, ld: int, out: int, out_ld: int, out_part: int) -> None:
        for row in range(rows):
            split(n, x + row * ld * 4, out + row * out_ld * 4, out_part * 4)

    return kernel(f"split-rows-{_named(isa)}-{precision}", split_rows, 7)


def group_kernel(isa: InstructionSet, precision: str) -> int:
    """Return the address of a kernel that splits rows into groups: ``(rows, n, x, ld, first, out, group, out_part)``.

    Groups are those of :func:`fgnumba.kernels.emit.matrix_tile`. `first` is the number of the first row, counted from
    the group at the address `out`; `ld` are the float32 from one row to the next, and `group` and `out_part` the words
    from one group, and one part, to the next.
    """
    split = splitter(isa, precision, grouped=True)
    piece = 2 * DEPTH[isa.dots]

    def split_groups(
        rows: int, n: int, x: int, ld: int, first: int, out: int, group: int, out_part: int
    ) -> None:
        for row in range(rows):
            at = (first + row) // GROUP_ROWS * group * 4 + (first + row) % GROUP_ROWS * piece
            split(n, x + row * ld * 4, out + at, out_part * 4)

    return kernel(f"split-groups-{_named(isa)}-{precision}", split_groups, 8)


def pack_kernel(isa: InstructionSet, precision: str) -> int:
    """Return the address of a kernel that splits and packs a panel: ``(n, w, out, out_part)``, see :func:`packer`.

    Here, `out_part` are words.
    """
    pack = packer(isa, precision)

    def pack_panel(n: int, w: int, out: int, out_part: int) -> None:
        pack(n, w, out, out_part * 4)

    return kernel(f"pack-panel-{_named(isa)}-{precision}", pack_panel, 4)
