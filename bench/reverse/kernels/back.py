"""From the cotangent of a dense layer of many rows to that of its input, dx = dz Wᵀ, in panels of features or by rows.

If the input is what an activation makes, its slopes are multiplied in where the product leaves the registers, and the
sums over rows, the gradient of a bias, are taken on the way: dx = (dz Wᵀ) ⊙ a', db = Σ dx. The product has the
precision of a tangent's.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.bench.reverse.kernels.panel_rows import panel_rows
from fgnumba.bench.reverse.kernels.rows import Sheet, sheet_fields
from fgnumba.kernels.emit import call, pointer, prefetch, prefetch_to_write
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import CACHE_LINE, PANEL, InstructionSet
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import (
    grid,
    heights,
    parts_for,
    range_sizes,
    split,
    threads_for,
    tile_count,
    tile_rows,
    tile_start,
)
from fgnumba.kernels.ops.example_panels.cpu import CACHED_ROWS
from fgnumba.kernels.shared.product import split_factors
from fgnumba.kernels.shared.product.register_tiles import SINGLE, TILE_KINDS, tile_table
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(
    *split_factors.FIELDS,
    *sheet_fields("out"),
    *("dz", "dz_panel", "segments", "rest", "offsets", "weight", "weight_rows", "rows", "features", "panels"),
    *(
        "slopes",
        "padded",
        "bias",
        "onto",
        "direct",
        "tiles",
        "tallest",
        "block",
        "column_parts",
        "row_parts",
        "at_sums",
    ),
)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    rows: int,
    dz: npt.NDArray[np.float32],
    terms: int,
    weight: npt.NDArray[np.float32],
    features: int,
    out: Sheet,
    slopes: npt.NDArray[np.float32] | None = None,
    bias: npt.NDArray[np.float32] | None = None,
    onto: bool = False,
) -> Operation:
    """Bind dx = dz Wᵀ, or (dz Wᵀ) ⊙ a' and its sum over rows.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    rows : int
        Number of rows.
    dz : array, (ceil(N / PANEL), at least `rows`, PANEL) float32
        The cotangents of the layer's N outputs.
    terms : int
        N.
    weight : array, (ceil(K / PANEL), at least N, PANEL) float32
        The transpose of the layer's weight, packed.
    features : int
        K.
    out : Sheet
        Written: dx, with room for whole panels.
    slopes : array, (ceil(K / PANEL), at least `rows`, PANEL) float32, or None
        a'. None: there is no activation.
    bias : array, (at least K,) float32, or None
        Written: the sum of dx, if there are slopes. None: there is no bias.
    onto : bool
        Whether the sum is added to what `bias` holds.

    Notes
    -----
    Cost: K N multiply-adds for each row. Reads dz and the slopes once, the weight once for each block of rows that
    the cache holds, and writes dx once. With slopes, a part has whole
    panels, and sums them over all rows in order.
    """
    segments, padded, _ = dz.shape
    panels = len(weight)
    products = rows * terms * panels * PANEL
    limit = panels if slopes is not None else panels * -(-rows // isa.max_rows)
    splits = bool(PRECISIONS[isa.tangent_precision].parts)
    parts = (threads_for if splits else parts_for)(products, limit, threads)
    column_parts, row_parts = (parts, 1) if slopes is not None else grid(panels, rows, parts)
    across = -(-panels // column_parts)
    regions, more = {"tile": isa.max_rows * PANEL * 4, "at_sums": across * PANEL * 4}, {}
    ranges = range_sizes(rows, row_parts)
    if splits:
        plan = split_factors.plan(isa, isa.tangent_precision, rows=ranges, panels=across, terms=terms)
        tiles, more = plan.table, plan.fields
        regions = {**regions, "tile": plan.chunk * PANEL * 4, **plan.regions}
    else:
        tile_heights = set().union(*(heights(count, isa.max_rows) for count in ranges))
        tiles = tile_table(isa, tile_heights, 1, True, None)
    offsets = np.arange(segments, dtype=np.int64) * padded * PANEL
    # A tile is the first region: it begins where scratch memory does.
    places, end = lay_out(regions.items())
    places.pop("tile")
    fields = {
        **out.fields("out"),
        **more,
        **places,
        "dz": address(dz),
        "dz_panel": padded * PANEL,
        "segments": segments,
        "rest": terms % PANEL,
        "offsets": address(offsets),
        "weight": address(weight),
        "weight_rows": weight.shape[1],
        "rows": rows,
        "features": features,
        "panels": panels,
        "slopes": address(slopes),
        "padded": 0 if slopes is None else slopes.shape[1],
        "bias": address(bias),
        "onto": onto,
        "direct": slopes is None and out.row == PANEL,
        "tiles": address(tiles),
        "tallest": isa.max_rows,
        "block": max(1, CACHED_ROWS // (isa.max_rows * terms * 4)),
        "column_parts": column_parts,
        "row_parts": row_parts,
    }
    return Operation(
        "input-gradient",
        _entry(isa, splits),
        filled(_ARGUMENTS, fields),
        parts,
        scratch_bytes=end,
        multiply_adds=rows * terms * features,
        keeps=(dz, weight, out.memory, slopes, bias, tiles, offsets),
    )


def _entry(isa: InstructionSet, splits: bool) -> int:
    multiplied, copied = panel_rows(isa, True), panel_rows(isa, False)

    def back(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        first_panel, last_panel = split(a.panels, a.column_parts, part % a.column_parts)
        first, last = split(a.rows, a.row_parts, part // a.column_parts)
        count = tile_count(last - first, a.tallest)
        sums = carray(pointer(a.scratch + a.at_sums, np.float32), (last_panel - first_panel) * PANEL)
        for at in range((last_panel - first_panel) * PANEL):
            sums[at] = np.float32(0)
        for begin in range(0, count, a.block):
            end = min(count, begin + a.block)
            for q in range(first_panel, last_panel):
                sums_at = a.scratch + a.at_sums + (q - first_panel) * PANEL * 4
                for tile in range(begin, end):
                    row = first + tile_start(last - first, count, tile)
                    height = tile_rows(last - first, count, tile)
                    if tile + 1 < end:
                        _expect(a, q, row + height, tile_rows(last - first, count, tile + 1))
                    out = a.out + (q * a.out_panel + row * a.out_row) * 4
                    _tile(a, q, row, height, out if a.direct else a.scratch)
                    if a.slopes != 0:
                        slopes = a.slopes + (q * a.padded + row) * PANEL * 4
                        multiplied(height, a.scratch, PANEL, slopes, PANEL, out, a.out_row, sums_at)
                    elif not a.direct:
                        copied(height, a.scratch, PANEL, 0, 0, out, a.out_row, sums_at)
        _finish(a, first_panel, last_panel)

    def back_split(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        first_panel, last_panel = split(a.panels, a.column_parts, part % a.column_parts)
        first, last = split(a.rows, a.row_parts, part // a.column_parts)
        sums = carray(pointer(a.scratch + a.at_sums, np.float32), (last_panel - first_panel) * PANEL)
        for at in range((last_panel - first_panel) * PANEL):
            sums[at] = np.float32(0)
        for row in range(first, last, a.chunk):
            n = min(a.chunk, last - row)
            split_factors.split_panels(a, a.dz + row * PANEL * 4, a.dz_panel, n)
            for q in range(first_panel, last_panel):
                if row == first or a.slots == 0:
                    split_factors.pack(a, a.weight + q * a.weight_rows * PANEL * 4, q - first_panel)
                out = a.out + (q * a.out_panel + row * a.out_row) * 4
                if not a.direct:
                    _expect(a, q, row, n)
                split_factors.multiply(a, n, q - first_panel, False, out if a.direct else a.scratch, 0)
                sums_at = a.scratch + a.at_sums + (q - first_panel) * PANEL * 4
                if a.slopes != 0:
                    slopes = a.slopes + (q * a.padded + row) * PANEL * 4
                    multiplied(n, a.scratch, PANEL, slopes, PANEL, out, a.out_row, sums_at)
                elif not a.direct:
                    copied(n, a.scratch, PANEL, 0, 0, out, a.out_row, sums_at)
        _finish(a, first_panel, last_panel)

    if splits:
        return kernel(f"reverse-back-split-{isa.vectors}", back_split, 3)
    return kernel(f"reverse-back-{isa.vectors}", back, 3)


@register_jitable
def _finish(a: Any, first_panel: int, last_panel: int) -> None:
    """Write the sums of some panels to the bias's gradient, or add them to it."""
    sums = carray(pointer(a.scratch + a.at_sums, np.float32), (last_panel - first_panel) * PANEL)
    for q in range(first_panel, last_panel if a.bias != 0 else first_panel):
        bias = carray(pointer(a.bias + q * PANEL * 4, np.float32), PANEL)
        for n in range(min(PANEL, a.features - q * PANEL)):
            total = sums[(q - first_panel) * PANEL + n]
            bias[n] = total + (bias[n] if a.onto else np.float32(0))


@register_jitable
def _tile(a: Any, q: int, row: int, height: int, out: int) -> None:
    """Compute a tile. Of the last panel of dz, only the valid terms are used."""
    entry = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))[TILE_KINDS * height + SINGLE]
    dz, weight = a.dz + row * PANEL * 4, a.weight + q * a.weight_rows * PANEL * 4
    whole = a.segments - (a.rest > 0)
    if whole > 0:
        call(entry, (whole, a.offsets, PANEL, dz, 0, PANEL, weight, 0, 0, 0, out, 0))
    if a.rest > 0:
        weight += whole * PANEL * PANEL * 4
        onto = np.int64(whole > 0)
        call(entry, (1, a.offsets + 8 * whole, a.rest, dz, 0, PANEL, weight, 0, 0, 0, out, onto))


@register_jitable
def _expect(a: Any, q: int, row: int, height: int) -> None:
    """Load the lines that the next tile reads and writes into the cache."""
    for i in range(row, row + height):
        out, slopes = a.out + (q * a.out_panel + i * a.out_row) * 4, a.slopes + (q * a.padded + i) * PANEL * 4
        for line in range(0, PANEL * 4, CACHE_LINE):
            prefetch_to_write(out + line)
            if a.slopes != 0:
                prefetch(slopes + line)
