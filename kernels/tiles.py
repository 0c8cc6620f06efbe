"""Register tiles as compiled kernels, and tables of their addresses."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.compile import kernel
from fgnumba.kernels.emit import product_tile
from fgnumba.kernels.vector import InstructionSet


def tile(isa: InstructionSet, rows: int, panels: int, weights: bool, entries: str | None) -> int:
    """Address of the register tile described in :func:`fgnumba.kernels.emit.product_tile`."""
    emitted = product_tile(isa, rows, panels, weights, entries)

    def product(
        k_len: int, a: int, c: int, ld: int, w: int, w_stride: int, v: int, v_stride: int, out: int
    ) -> None:
        emitted(k_len, a, c, ld, w, w_stride, v, v_stride, out)

    terms = "+".join((["weights"] if weights else []) + ([entries] if entries else []))
    return kernel(f"tile-{isa.name}-{rows}x{panels}-{terms}", product, 9)


def tile_table(
    isa: InstructionSet, heights: Iterable[int], group: int, weights: bool, entries: str | None
) -> npt.NDArray[np.int64]:
    """Return addresses of tiles by height: (max_rows + 1, 2) int64, of 1 and of `group` panels.

    Only tiles of `heights` rows are compiled and written; the others stay 0.
    """
    table = np.zeros((isa.max_rows + 1, 2), np.int64)
    for rows in heights:
        table[rows] = [tile(isa, rows, panels, weights, entries) for panels in (1, group)]
    return table
