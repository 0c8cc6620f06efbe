"""Compiles register tiles as kernels, and makes tables of their addresses."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.emit import product_tile
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import round_up

TILE_KINDS = 3
SINGLE, GROUP, LAST = range(TILE_KINDS)
"""Columns of a table of tiles: a tile of one panel, of a group of panels, of a last panel that is partly padding."""


def tile(
    isa: InstructionSet,
    rows: int,
    panels: int,
    weights: bool,
    entries: str | None,
    width: int = PANEL,
    channelwise: bool = False,
    ahead: bool = False,
) -> int:
    """Return the address of a register tile, whose parameters :func:`fgnumba.kernels.emit.product_tile` describes.

    The kernel has the last two arguments only with `ahead`.
    """
    emitted = product_tile(isa.plain, rows, panels, weights, entries, width, channelwise, ahead)

    def product(
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
        emitted(segments, offsets, length, a, c, ld, w, w_stride, v, v_stride, out, onto, 0, 0)

    def product_ahead(
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
        emitted(segments, offsets, length, a, c, ld, w, w_stride, v, v_stride, out, onto, following, step)

    terms = "+".join((["weights"] if weights else []) + ([entries] if entries else []))
    kind = ("channelwise-tile" if channelwise else "tile") + ("-ahead" if ahead else "")
    name = f"{kind}-{isa.vectors}-{rows}x{panels}x{width}-{terms}-near{isa.near}"
    return kernel(name, product_ahead, 14) if ahead else kernel(name, product, 12)


def tile_table(
    isa: InstructionSet,
    heights: Iterable[int],
    group: int,
    weights: bool,
    entries: str | None,
    last_columns: int = PANEL,
    channelwise: bool = False,
    ahead: bool = False,
) -> npt.NDArray[np.int64]:
    """Return the addresses of register tiles by height: an array (max_rows + 1, ``TILE_KINDS``) int64.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    heights : iterable of int
        The heights of which tiles are compiled. The addresses of other heights are 0.
    group : int
        Panels of the tiles in column ``GROUP``; those in the other columns have one.
    weights, entries, channelwise, ahead : bool, str or None, bool, bool
        Properties of all tiles, see :func:`fgnumba.kernels.emit.product_tile`.
    last_columns : int
        Number of columns that the tiles in column ``LAST`` compute.
    """
    table = np.zeros((isa.max_rows + 1, TILE_KINDS), np.int64)
    last = round_up(last_columns, isa.lanes)
    for rows in heights:
        for kind, (panels, width) in enumerate(((1, PANEL), (group, PANEL), (1, last))):
            table[rows, kind] = tile(isa, rows, panels, weights, entries, width, channelwise, ahead)
    return table


ONE_SEGMENT = np.zeros(1, np.int64)
"""The offsets of a row that is one run of elements."""
