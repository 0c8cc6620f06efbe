"""Products that sum over examples on the CPU: a weight's gradient xᵀ δ, from a layer's input and its error signals.

x is stored in *example panels*: (ceil(B / PANEL), K, PANEL) float32, where element [p, k, b] is feature k of example
p * PANEL + b. δ is stored in panels of its features, (ceil(N / PANEL), B, PANEL). Elements beyond the batch are zero.
The product is then one of rows by panels, on the forward pass's register tile, and its result is packed like the
weight:

    g [q, k, n] = Σ_b x[b, k] δ[b, n]
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer, prefetch_to_write, transpose_block
from fgnumba.kernels.emit.vector import CACHE_LINE, PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import (
    MOVED_WORK,
    grid,
    heights,
    parts_for,
    range_sizes,
    split,
    tile_count,
    tile_rows,
    tile_start,
)
from fgnumba.kernels.ops.example_panels import split_product
from fgnumba.kernels.shared.product.register_tiles import LAST, TILE_KINDS, tile_table
from fgnumba.validation.launcher import launcher

_PRODUCT = record(
    *("a", "segments", "offsets", "rows", "panels", "w", "w_rows", "out", "out_rows"),
    *("onto", "streams", "block", "rest", "tiles", "tallest"),
)
CACHED_ROWS = 512 * 1024
"""Bytes of rows of `a` that stay in the second-level cache while all panels of the other factor are multiplied."""

STREAMS = 2
"""Panels of `a` that are read at a time if `a` comes from memory."""


@launcher
def bind_product(
    name: str,
    isa: InstructionSet,
    threads: int,
    *,
    a: npt.NDArray[np.float32],
    w: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    rows: int,
    terms: int,
    columns: int,
    onto: bool,
    multiply_adds: int,
    from_memory: bool = False,
) -> Operation:
    """Bind ``out[q, r] = Σ_s a[s, r] · w[q, s]`` for r < R. All three are stored in panels, (panels, rows, PANEL).

    Parameters
    ----------
    name : str
        Name of the operation.
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    a : array, (S, at least R, PANEL) float32
        The first factor.
    w : array, (Q, S * PANEL, PANEL) float32
        The second factor.
    out : array, (Q, at least R, PANEL) float32
        Written: the product.
    rows : int
        R.
    terms, columns : int
        Numbers of terms of the sum, and of columns of `out`, without padding.
    onto : bool
        Whether the product is added to what `out` holds.
    multiply_adds : int
        Number of multiply-adds of the product without padding.
    from_memory : bool
        Whether `a` is in no cache. It is then read once, a few panels at a time, and what is written stays in a cache.

    Notes
    -----
    Cost: R multiply-adds for each term and column, their numbers rounded up to PANEL (or to a vector, if there is one
    panel). Reads `a` once, a block of its rows after another, which stays in a cache, and w once for each block. With
    `from_memory`, `a` is read once, a few panels at a time, and what is written stays in a cache.
    """
    if split_product.suits(isa, terms, len(w)):
        return split_product.bind(
            name,
            isa,
            threads,
            a=a,
            w=w,
            out=out,
            rows=rows,
            terms=terms,
            columns=columns,
            onto=onto,
            multiply_adds=multiply_adds,
        )
    segments = -(-terms // PANEL)
    parts = parts_for(rows * terms * w.shape[0] * PANEL, -(-rows // isa.max_rows), threads)
    tile_heights = set().union(*(heights(n, isa.max_rows) for n in range_sizes(rows, parts)))
    tiles = tile_table(isa, tile_heights, 1, True, None, columns if w.shape[0] == 1 else PANEL)
    offsets = np.arange(segments, dtype=np.int64) * a.shape[1] * PANEL
    fields = {
        "a": address(a),
        "segments": segments,
        "offsets": address(offsets),
        "rows": rows,
        "panels": w.shape[0],
        "w": address(w),
        "w_rows": w.shape[1],
        "out": address(out),
        "out_rows": out.shape[1],
        "onto": onto,
        "streams": from_memory,
        "block": max(1, CACHED_ROWS // (isa.max_rows * terms * 4)),
        "rest": terms % PANEL,
        "tiles": address(tiles),
        "tallest": isa.max_rows,
    }
    return Operation(
        name,
        kernel("panel-product", _product, 3),
        filled(_PRODUCT, fields),
        parts,
        multiply_adds=multiply_adds,
        keeps=(a, w, out, tiles, offsets),
    )


def _product(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _PRODUCT), 1)[0]
    first, last = split(a.rows, parts, part)
    count = tile_count(last - first, a.tallest)
    # Each panel of `a` is one stream through memory, and a processor prefetches only a few streams. With all 32
    # panels of 12 MB of weights at once, the product took three times as long.
    block = STREAMS if a.streams else a.segments
    for s in range(0, a.segments, block):
        segments = min(block, a.segments - s)
        if a.streams:
            row = first
            for tile in range(count):
                height = tile_rows(last - first, count, tile)
                for q in range(a.panels):
                    _tile(a, q, row, height, s, segments)
                row += height
        else:
            for begin in range(0, count, a.block):
                end = min(count, begin + a.block)
                for q in range(a.panels):
                    for tile in range(begin, end):
                        row = first + tile_start(last - first, count, tile)
                        height = tile_rows(last - first, count, tile)
                        # Stores to memory that is in no cache would hold up the next tile: of weights, by a quarter.
                        following = a.out + (q * a.out_rows + row + height) * PANEL * 4
                        for at in range(0, height * PANEL * 4 if tile + 1 < end else 0, CACHE_LINE):
                            prefetch_to_write(following + at)
                        _tile(a, q, row, height, s, segments)


@register_jitable
def _tile(a: Any, q: int, row: int, height: int, s: int, segments: int) -> None:
    """Add `segments` panels of `a`, from panel s on, to a tile of out.

    Of the very last panel, only the valid terms are used.
    """
    addresses = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    entry = addresses[TILE_KINDS * height + LAST]
    operand = a.a + row * PANEL * 4
    out = a.out + (q * a.out_rows + row) * PANEL * 4
    w = a.w + (q * a.w_rows + s * PANEL) * PANEL * 4
    onto = 1 if s > 0 else a.onto
    whole = segments - (a.rest > 0 and s + segments == a.segments)
    if whole > 0:
        call(entry, (whole, a.offsets + 8 * s, PANEL, operand, 0, PANEL, w, 0, 0, 0, out, onto))
        onto = 1
    if whole < segments:
        w += whole * PANEL * PANEL * 4
        call(entry, (1, a.offsets + 8 * (s + whole), a.rest, operand, 0, PANEL, w, 0, 0, 0, out, onto))


@cache
def transpose(isa: InstructionSet) -> int:
    """Return the address of a kernel that transposes a matrix: y[j, i] = x[i, j].

    The kernel takes ``(rows, columns, x, x_ld, y, y_ld)``.
    """
    block, lanes = transpose_block(isa), isa.lanes

    def transpose(rows: int, columns: int, x: int, x_ld: int, y: int, y_ld: int) -> None:
        whole_rows, whole_columns = rows // lanes * lanes, columns // lanes * lanes
        for j in range(0, whole_columns, lanes):
            for i in range(0, whole_rows, lanes):
                block(x + (i * x_ld + j) * 4, x_ld, y + (j * y_ld + i) * 4, y_ld)
        xs = carray(pointer(x, np.float32), (rows, x_ld))
        ys = carray(pointer(y, np.float32), (columns, y_ld))
        for i in range(rows):
            for j in range(whole_columns if i < whole_rows else 0, columns):
                ys[j, i] = xs[i, j]

    return kernel(f"transpose-{isa.vectors}", transpose, 6)


_MOVE = record(*images.fields("x"), "batch", "features", "panels", "panel_rows", "transpose")


@launcher
def bind_to_panels(
    isa: InstructionSet, threads: int, *, x: Images, panels: npt.NDArray[np.float32], batch: int
) -> Operation:
    """Bind the copy of examples (B, N), the rows of `x`, to example panels, with zeros beyond the batch.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    x : Images
        The examples.
    panels : array, (ceil(B / PANEL), at least N, PANEL) float32
        Written: the example panels.
    batch : int
        Number of examples B.

    Notes
    -----
    Cost: reads x once, and writes the panels once.
    """
    return _bind_move("to-panels", _to_panels, isa, threads, x, panels, batch)


@launcher
def bind_from_panels(
    isa: InstructionSet, threads: int, *, x: Images, panels: npt.NDArray[np.float32], batch: int
) -> Operation:
    """Bind the copy of example panels to examples (B, N), the rows of `x`.

    The parameters are those of :func:`bind_to_panels`, but `panels` is read and `x` is written.

    Notes
    -----
    Cost: reads the panels once, and writes x once.
    """
    return _bind_move("from-panels", _from_panels, isa, threads, x, panels, batch)


def _bind_move(
    name: str,
    body: Any,
    isa: InstructionSet,
    threads: int,
    x: Images,
    panels: npt.NDArray[np.float32],
    batch: int,
) -> Operation:
    features = x.shape[0] * x.shape[1] * x.shape[2]
    values, memory = operands(x=x)
    fields = {
        **values,
        "batch": batch,
        "features": features,
        "panels": address(panels),
        "panel_rows": panels.shape[1],
        "transpose": transpose(isa),
    }
    memory["keeps"] = (memory["keeps"], panels)
    parts = parts_for(batch * features * MOVED_WORK, panels.shape[0], threads)
    return Operation(name, kernel(name, body, 3), filled(_MOVE, fields), parts, **memory)


def _to_panels(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _MOVE), 1)[0]
    first, last = split((a.batch + PANEL - 1) // PANEL, parts, part)
    for p in range(first, last):
        examples = min(PANEL, a.batch - p * PANEL)
        out = a.panels + p * a.panel_rows * PANEL * 4
        call(a.transpose, (examples, a.features, a.x + p * PANEL * a.x_image * 4, a.x_image, out, PANEL))
        if examples < PANEL:
            panel = carray(pointer(out, np.float32), (a.features, PANEL))
            for n in range(a.features):
                for b in range(examples, PANEL):
                    panel[n, b] = np.float32(0)


def _from_panels(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _MOVE), 1)[0]
    first, last = split((a.batch + PANEL - 1) // PANEL, parts, part)
    for p in range(first, last):
        examples = min(PANEL, a.batch - p * PANEL)
        out = a.x + p * PANEL * a.x_image * 4
        source = a.panels + p * a.panel_rows * PANEL * 4
        call(a.transpose, (a.features, examples, source, PANEL, out, a.x_image))


_FEATURES = record(
    *images.fields("x"), "rows", "columns", "out", "out_rows", "across", "down", "sums", "onto"
)

BLOCK = 64
"""Rows that are copied panel by panel, and added up in float32."""


@launcher
def bind_rows_to_feature_panels(
    isa: InstructionSet,
    threads: int,
    *,
    x: Images,
    panels: npt.NDArray[np.float32],
    batch: int,
    sums: npt.NDArray[np.float32] | None = None,
    onto: bool = False,
) -> Operation:
    """Bind the copy of rows (R, N) to panels of their features, and the sums of the rows.

    Parameters
    ----------
    isa : InstructionSet
        Not used.
    threads : int
        Number of threads that may share the work.
    x : Images
        The rows: examples (1, 1, N), or the positions of sequences (L, 1, N) by position.
    panels : array, (ceil(N / PANEL), at least R, PANEL) float32
        Written: the rows, with zeros in the padding.
    batch : int
        Number of rows R.
    sums : array, (at least N,) float32, or None
        Written: Σ over the rows, the gradient of a bias. None: it is not computed.
    onto : bool
        Whether the sums are added to what `sums` holds.

    Notes
    -----
    Cost: reads x once, and writes the panels once. Rows are added up in float32 by ``BLOCK``, and the blocks in
    float64, in an order that does not depend on the number of threads: where there are sums, a part has whole panels.
    """
    flat = x.by_rows()
    columns, (count, out_rows, _) = flat.shape[2], panels.shape
    blocks = -(-out_rows // BLOCK) if sums is None else 1
    across, down = grid(count, blocks, parts_for(batch * columns * MOVED_WORK, count * blocks, threads))
    values, memory = operands(x=flat)
    fields = {
        **values,
        "rows": batch,
        "columns": columns,
        "out": address(panels),
        "out_rows": out_rows,
        "across": across,
        "down": down,
        "sums": address(sums),
        "onto": onto,
    }
    memory["keeps"] = (memory["keeps"], panels, sums)
    entry = kernel("rows-to-feature-panels", _rows_to_feature_panels, 3)
    arguments, scratch = filled(_FEATURES, fields), count * PANEL * 8 + PANEL * 4
    return Operation("to-feature-panels", entry, arguments, across * down, scratch_bytes=scratch, **memory)


def _rows_to_feature_panels(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _FEATURES), 1)[0]
    low, high = split((a.columns + PANEL - 1) // PANEL, a.across, part % a.across)
    first, last = split((a.out_rows + BLOCK - 1) // BLOCK, a.down, part // a.across)
    total = carray(pointer(a.scratch, np.float64), (high - low) * PANEL)
    partial = carray(pointer(a.scratch + (high - low) * PANEL * 8, np.float32), PANEL)
    for j in range((high - low) * PANEL):
        total[j] = 0.0
    for block in range(first, last):
        begin, end = block * BLOCK, min(a.out_rows, (block + 1) * BLOCK)
        for panel in range(low, high):
            n = min(PANEL, a.columns - panel * PANEL)
            for j in range(n):
                partial[j] = np.float32(0)
            for row in range(begin, end):
                out = carray(pointer(a.out + (panel * a.out_rows + row) * PANEL * 4, np.float32), PANEL)
                there = n if row < a.rows else 0
                x = carray(pointer(a.x + (row * a.x_image + panel * PANEL) * 4, np.float32), there)
                for j in range(there):
                    out[j] = x[j]
                for j in range(there, PANEL):
                    out[j] = np.float32(0)
                if a.sums:
                    for j in range(there):
                        partial[j] += x[j]
            if a.sums:
                for j in range(n):
                    total[(panel - low) * PANEL + j] += np.float64(partial[j])
    if a.sums:
        sums = carray(pointer(a.sums, np.float32), a.columns)
        for j in range(low * PANEL, min(high * PANEL, a.columns)):
            sums[j] = np.float32(total[j - low * PANEL]) + (sums[j] if a.onto else np.float32(0))
