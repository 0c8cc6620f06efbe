"""Products of rows by panels whose factors are bfloat16: each operand is split once, then multiplied tile by tile.

A thread multiplies some rows with some panels of W. Its rows are split in chunks that stay in the second-level cache.
A panel is split and packed when it is read for the first time. A kernel with these fields in its arguments calls
:func:`split_panels` (or :func:`split_rows`) for a chunk, :func:`pack` for a panel, and :func:`multiply` for both.

A sum does not depend on how rows are divided, so that results do not depend on the number of threads.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer, prefetch_to_write
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import CACHE_LINE, PANEL, InstructionSet
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.work import heights, tile_count, tile_rows
from fgnumba.kernels.shared.product import dot_tiles
from fgnumba.kernels.shared.product.register_tiles import LAST, ONE_SEGMENT, SINGLE, TILE_KINDS

CACHED_ROWS = 512 * 1024
"""Bytes of split rows that stay in the second-level cache while all panels are multiplied with them."""

FIELDS = (
    *("terms", "row_words", "panel_words", "split_parts", "chunk", "slots"),
    *("split_entry", "pack_entry", "dots", "dot_tallest", "one_segment", "at_rows", "at_packed"),
)
"""The fields that the functions for kernels read. ``at_rows`` and ``at_packed`` are :attr:`Plan.regions`."""


class Plan(NamedTuple):
    """What a kernel needs for its products.

    Attributes
    ----------
    fields : dict of str to int
        ``FIELDS`` without the places of regions.
    regions : dict of str to int
        Bytes of scratch memory of ``at_rows`` and ``at_packed``.
    chunk : int
        The most rows of a chunk.
    table : array
        The tiles, which must outlive the operation.
    """

    fields: dict[str, int]
    regions: dict[str, int]
    chunk: int
    table: npt.NDArray[np.int64]


def plan(
    isa: InstructionSet,
    precision: str,
    *,
    rows: Iterable[int],
    panels: int,
    terms: int,
    last_columns: int = PANEL,
) -> Plan:
    """Plan a thread's products.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set.
    precision : str
        The precision, one with parts.
    rows : iterable of int
        The numbers of rows that threads have.
    panels : int
        The most panels that a thread has.
    terms : int
        K, without padding.
    last_columns : int
        Columns of the last panel that are computed.
    """
    parts, tallest = PRECISIONS[precision].parts, dot_tiles.tallest(isa)
    sizes = set(rows)
    most, row_words = max(sizes), dot_tiles.padded(isa, terms) // 2
    chunk = min(most, max(tallest, CACHED_ROWS // (4 * row_words * parts) // tallest * tallest))
    chunk = max(1, chunk)
    tile_heights = {
        height
        for size in sizes
        for first in range(0, size, chunk)
        for height in heights(min(chunk, size - first), tallest)
    }
    table = dot_tiles.dot_table(isa, tile_heights, 1, precision, last_columns)
    slots = panels if most > chunk else 0
    fields = {
        "terms": terms,
        "row_words": row_words,
        "panel_words": row_words * PANEL,
        "split_parts": parts,
        "chunk": chunk,
        "slots": slots,
        "split_entry": dot_tiles.split_kernel(isa, precision),
        "pack_entry": dot_tiles.pack_kernel(isa, precision),
        "dots": address(table),
        "dot_tallest": tallest,
        "one_segment": address(ONE_SEGMENT),
    }
    regions = {
        "at_rows": 4 * row_words * parts * chunk,
        "at_packed": 4 * row_words * PANEL * parts * max(1, slots),
    }
    return Plan(fields, regions, chunk, table)


@register_jitable
def split_rows(a: Any, x: int, ld: int, n: int) -> None:
    """Split `n` rows of K neighbouring float32, the first at the address `x`, each `ld` elements after the last."""
    call(a.split_entry, (n, a.terms, x, ld, a.scratch + a.at_rows, a.row_words, n * a.row_words))


@register_jitable
def split_panels(a: Any, x: int, panel: int, n: int) -> None:
    """Split `n` rows that are stored in panels, `panel` elements apart. The first row's first panel is at `x`."""
    for k in range(0, a.terms, PANEL):
        out = a.scratch + a.at_rows + k * 2
        length = min(PANEL, a.terms - k)
        source = x + k // PANEL * panel * 4
        call(a.split_entry, (n, length, source, PANEL, out, a.row_words, n * a.row_words))


@register_jitable
def pack(a: Any, w: int, slot: int) -> None:
    """Split and pack a panel at the address `w`. A thread has place for ``slots`` panels, or for one if that is 0."""
    at = slot * a.split_parts * a.panel_words if a.slots > 0 else 0
    call(a.pack_entry, (a.terms, w, a.scratch + a.at_packed + at * 4, a.panel_words))


@register_jitable
def multiply(a: Any, n: int, slot: int, last: bool, out: int, onto: int) -> None:
    """Multiply the `n` split rows with a packed panel, the last one or not, and write or add (n, PANEL) to `out`."""
    addresses = carray(pointer(a.dots, np.int64), TILE_KINDS * (a.dot_tallest + 1))
    kind, count = LAST if last else SINGLE, tile_count(n, a.dot_tallest)
    at = slot * a.split_parts * a.panel_words if a.slots > 0 else 0
    x, w = a.scratch + a.at_rows, a.scratch + a.at_packed + at * 4
    row = 0
    for tile in range(count):
        height = tile_rows(n, count, tile)
        # Stores to memory that is in no cache would hold up the next tile.
        following = out + (row + height) * PANEL * 4
        for at in range(0, height * PANEL * 4 if tile + 1 < count else 0, CACHE_LINE):
            prefetch_to_write(following + at)
        operand = (1, a.one_segment, a.row_words, x + row * a.row_words * 4, n * a.row_words, a.row_words)
        call(
            addresses[TILE_KINDS * height + kind],
            (*operand, w, a.panel_words, 0, out + row * PANEL * 4, onto),
        )
        row += height
