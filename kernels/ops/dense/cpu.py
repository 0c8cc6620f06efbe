"""Dense layer on the CPU: primal and tangents in one pass.

    y    = a(x W + b)
    dy_t = a'(z) (dx_t W + x V_t + c_t)        for every direction t

A *dual* buffer is (1 + T, B, ld) float32: first the primal, then the tangents. For rank-1 directions V_t = u_t w_tᵀ,
the term x V_t = (x u_t) w_tᵀ costs no product, and primal and tangents are rows of a single product with W. For other
directions, x V_t is added to the tangent's product in the same registers.

For each panel of W, the kernel draws the panel of V, runs the register tile over all rows into a scratch tile, and
finishes it there (bias, activation, slope), so that z never leaves the first-level cache. W's panel stays in the
second-level cache from one product to the next. If K is too large for that, K is divided into blocks, and partial sums
are kept in scratch memory until the last block is added. While the tiles of a panel are computed, what the next ones
will read from memory is loaded into the second-level cache.

Source: arXiv 2202.08587, section 3; rank-1 signs have E[v vᵀ] = I as independent signs have.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer, prefetch_to_write
from fgnumba.kernels.emit.vector import CACHE_LINE, PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import (
    PARTS_A_THREAD,
    grid,
    heights,
    range_sizes,
    split,
    threads_for,
    tile_count,
    tile_rows,
)
from fgnumba.kernels.ops.dense import drawing_cpu, split_cpu
from fgnumba.kernels.rules.directions import EXPLICIT, NONE, RADEMACHER, RANK1
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.shared.product import dots, product
from fgnumba.kernels.shared.product.register_tiles import GROUP, LAST, ONE_SEGMENT, SINGLE, TILE_KINDS
from fgnumba.validation.launcher import launcher

PANELS_A_PART = 4
"""Number of panels that a part has at least, if a thread has more than one part."""

CACHED_WEIGHTS = 256 * 1024
"""Bytes of a group of weight panels that stay in the second-level cache between products, besides everything else."""

ARGUMENTS = record(
    *product.FIELDS,
    *images.fields("x"),
    *images.fields("y"),
    *("has_tangent", "batch", "offsets", "v_row", "column_parts", "row_parts", "k_block"),
)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    x: Images,
    y: Images,
    outputs: int,
    weights: product.Weights,
    activation_name: str,
) -> Operation:
    """Bind the dense layer to its arrays.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    x : Images
        B examples of one pixel with K channels, in a buffer of the whole batch. If they have no tangent (a symbolic
        zero), its product is skipped.
    y : Images
        B examples of whole panels, all of which are written. They must not overlap x.
    outputs : int
        N, the number of columns of y without padding. A last panel that is partly padding takes narrower tiles.
    weights : Weights
        The layer's weights and directions.
    activation_name : str
        The activation a.

    Notes
    -----
    Cost: for rank-1 directions, 1 + T products of B K N multiply-adds (1 if x has no tangent); for others, 1 + 2 T
    (1 + T). Reads W once from memory, and once from the second-level cache for each tile of rows and each product.
    """
    if split_cpu.suits(isa, batch, weights.panels):
        return split_cpu.bind(
            isa,
            threads,
            batch=batch,
            x=x,
            y=y,
            outputs=outputs,
            weights=weights,
            activation_name=activation_name,
        )
    inputs, panels, has_tangent = weights.inputs, weights.panels, x.has_tangent and weights.count > 0
    kind, count, entries = weights.kind, weights.count, weights.entries
    work = weights.products(has_tangent) * batch * inputs * panels * PANEL
    tallest = isa.max_rows
    sharing = threads_for(work, max(panels, -(-batch // tallest)), threads)
    column_parts, row_parts = grid(panels, batch, sharing)
    if sharing > 1:
        # Each part draws u and multiplies it with x again, so a part gets several panels. Each row part draws V's
        # panels again, so there are no more row parts than threads.
        column_parts *= max(1, min(PARTS_A_THREAD, panels // (PANELS_A_PART * column_parts)))
    rows = -(-batch // row_parts)
    stacked = kind in (NONE, RANK1) and has_tangent and row_parts == 1
    tile_heights = set().union(
        *(heights(n * (1 + count if stacked else 1), tallest) for n in range_sizes(batch, row_parts))
    )
    group = min(isa.panels(max(tile_heights)), 1 << (max(1, panels // column_parts).bit_length() - 1))
    last = outputs - (panels - 1) * PANEL
    values, kept = product.fields(
        isa, weights, activation_name, has_tangent, entries, tile_heights, group, last, ahead=True
    )
    columns = group * PANEL * 4
    k_block, sums = inputs, min(tallest, rows * (1 + count)) * columns
    if entries and columns * inputs > CACHED_WEIGHTS and rows * (1 + count) * columns <= CACHED_WEIGHTS:
        k_block, sums = CACHED_WEIGHTS // columns, rows * (1 + count) * columns
    v_row, drawn = inputs * PANEL * 4, 0
    if entries and kind != EXPLICIT:
        v_row = directions.draw_bytes(kind, k_block)
        drawn = group * v_row
    dot_values, dot_regions, dot_tiles = dots.fields(
        isa, kind, count, inputs, rows, drawing_cpu.dot_heights(isa, batch, row_parts)
    )
    regions = {**product.regions(weights, sums, rows * columns, drawn), **dot_regions}
    offsets, end = lay_out(regions.items())
    addresses, memory = operands(x=x, y=y)
    places = {
        **addresses,
        "has_tangent": has_tangent,
        "batch": batch,
        "offsets": address(ONE_SEGMENT),
        "v_row": v_row,
        "column_parts": column_parts,
        "row_parts": row_parts,
        "k_block": k_block,
        **{name: offset for name, offset in offsets.items() if name != "sums"},
    }
    return Operation(
        name="dense",
        entry=_entry(),
        arguments=filled(ARGUMENTS, values | dot_values | places),
        parts=column_parts * row_parts,
        scratch_bytes=end,
        multiply_adds=weights.products(has_tangent) * batch * inputs * outputs,
        external=memory["external"],
        keeps=(memory["keeps"], kept, dot_tiles),
    )


@cache
def _entry() -> int:
    return kernel("dense", _dense, 3)


def _dense(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    p, p_end = split(a.panels, a.column_parts, part % a.column_parts)
    i, i_end = split(a.batch, a.row_parts, part // a.column_parts)
    rows = i_end - i
    if p == p_end or rows == 0:
        return
    drawing_cpu.draw(a, i, rows)
    while p < p_end:
        group = a.group if p_end - p >= a.group else 1
        if a.kind < RADEMACHER and a.has_tangent and rows == a.batch:
            _products(a, p, p_end, group, i, rows, 0, a.count, 0)
        elif a.k_block < a.inputs:
            for k in range(0, a.inputs, a.k_block):
                for t in range(a.count + 1):
                    _products(a, p, p_end, group, i, rows, t, t, k)
            for t in range(a.count + 1):
                sums = a.scratch + t * rows * group * PANEL * 4
                _finish(a, sums, t, i, 0, rows, rows, p, group)
        else:
            _products(a, p, p_end, group, i, rows, 0, 0, 0)
            for t in range(1, a.count + 1):
                if a.kind == RANK1 and not a.has_tangent:
                    _finish(a, 0, t, i, 0, rows, rows, p, group)
                else:
                    _products(a, p, p_end, group, i, rows, t, t, 0)
        p += group


@register_jitable
def _products(
    a: Any, p: int, p_end: int, group: int, i: int, rows: int, first: int, last: int, k: int
) -> None:
    """Multiply examples i to i + rows of blocks `first` to `last` with W, from row k of W on. Block 0 is the primal.

    If K is a single block, each tile is finished at once; otherwise its sums are left in scratch memory.
    """
    whole = a.k_block == a.inputs
    length = min(a.k_block, a.inputs - k)
    x = a.x + (i * a.x_image + k) * 4
    dx = x + first * a.x_block * 4
    weight = a.weight + (p * a.inputs + k) * PANEL * 4
    tiles, v, v_stride = a.weight_tiles, 0, 0
    if first > 0 and a.kind >= RADEMACHER:
        tiles, v_stride = a.tangent_tiles, a.v_row // 4
        if a.kind == EXPLICIT:
            v = a.v + (((first - 1) * a.panels + p) * a.inputs + k) * PANEL * 4
        else:
            v = a.scratch + a.at_drawn
            for panel in range(group):
                product.draw_panel(a, first - 1, p + panel, k, length, v + panel * a.v_row)
    addresses = carray(pointer(tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    kind = GROUP
    if group == 1:
        kind = LAST if p == a.panels - 1 else SINGLE
    total = rows * (1 + last - first)
    count = tile_count(total, a.tallest)
    following, size = _following(a, p, p_end, group, last, k)
    step = size // (count * length) if count > 1 else 0
    row = 0
    for tile in range(count):
        height = tile_rows(total, count, tile)
        at = row * a.x_image * 4
        out = a.scratch if whole else a.scratch + (first * rows + row) * group * PANEL * 4
        operands = (dx + at, x + at, a.x_image, weight, a.inputs * PANEL, v, v_stride)
        ahead = (following + tile * length * step, step)
        if whole and tile + 1 < count:
            _expect(a, p, group, i, rows, first, row + height, tile_rows(total, count, tile + 1))
        call(addresses[TILE_KINDS * height + kind], (1, a.offsets, length, *operands, out, k, *ahead))
        done = 0
        while whole and done < height:
            t, at = first + (row + done) // rows, (row + done) % rows
            run = min(height - done, rows - at)
            _finish(a, a.scratch + done * group * PANEL * 4, t, i, at, run, rows, p, group)
            done += run
        row += height


@register_jitable
def _expect(a: Any, p: int, group: int, i: int, rows: int, first: int, row: int, height: int) -> None:
    """Load the lines that the next tile writes into the cache. `row` counts from block `first` on.

    Stores to memory that is in no cache would hold up the tile after them: it took half as long again on 768 rows of
    128, with a Xeon's cache of 2 MB.
    """
    t, at = first + row // rows, row % rows
    for _ in range(height):
        y = a.y + (t * a.y_block + (i + at) * a.y_image + p * PANEL) * 4
        for line in range(0, group * PANEL * 4, CACHE_LINE):
            prefetch_to_write(y + line)
        at += 1
        if at == rows:
            t, at = t + 1, 0


@register_jitable
def _following(a: Any, p: int, p_end: int, group: int, t: int, k: int) -> tuple[int, int]:
    """Return address and bytes of what is to be prefetched while block t is multiplied with W from row k on.

    This is a range of the weights or of the directions' entries; 0 bytes: nothing. If a block of K spans several
    panels, it is the range in the first panel.
    """
    across = group if a.k_block == a.inputs else 1
    if t < a.count and a.kind == EXPLICIT:
        length = min(a.k_block, a.inputs - k)
        return a.v + ((t * a.panels + p) * a.inputs + k) * PANEL * 4, across * length * PANEL * 4
    last = t == a.count or (a.kind == RANK1 and not a.has_tangent)
    if last and k + a.k_block < a.inputs:
        k += a.k_block
    else:
        p, k = p + group, 0
        across = min(across, p_end - p)
    if not last or p >= p_end:
        return a.weight, 0
    length = min(a.k_block, a.inputs - k)
    return a.weight + (p * a.inputs + k) * PANEL * 4, across * length * PANEL * 4


@register_jitable
def _finish(a: Any, z: int, t: int, i: int, at: int, size: int, rows: int, p: int, group: int) -> None:
    """Apply the epilogue to `size` rows from the part's row `at` on: of the primal (t = 0), or of tangent t."""
    columns = group * PANEL
    slopes = a.scratch + a.at_slopes + at * columns * 4
    dotted = dots.at(a, t - 1, at) if a.kind == RANK1 else 0
    y = a.y + (t * a.y_block + (i + at) * a.y_image + p * PANEL) * 4
    product.finish(a, t, p, size, columns, z, slopes, dotted, y, a.y_image)
