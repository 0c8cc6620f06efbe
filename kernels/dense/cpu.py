"""Dense layer on the CPU: y = a(x W + b) and, for every direction t, dy_t = a'(z) (dx_t W + x V_t + c_t),
in one pass.

A *dual* buffer is (1 + T, B, ld) float32: the primal first, then the tangents. For rank-1 directions V_t =
u_t w_tᵀ, so x V_t = (x u_t) w_tᵀ costs no product, and primal and tangents are rows of one product with W.
Other directions add x V_t to a tangent's product in the same registers.

For each panel of W: draw V's panel, run the register tile over all rows into a scratch tile, and finish it
there (bias, activation, slope): z never leaves the first-level cache. W's panel stays in the second-level cache
between its products; where K is too large for that, K is cut into blocks, and sums wait in scratch memory.

Source: arXiv 2202.08587, section 3; rank-1 signs have E[v vᵀ] = I as independent signs have.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels import epilogue
from fgnumba.kernels.activations.cpu import activation
from fgnumba.kernels.compile import kernel
from fgnumba.kernels.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER, RANK1
from fgnumba.kernels.directions import cpu as directions
from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.memory import CACHE_LINE, address, round_up
from fgnumba.kernels.philox import DIRECTION_SHIFT, ENTRY, LEFT, RIGHT, STREAM
from fgnumba.kernels.program import Operation
from fgnumba.kernels.tiles import GROUP, LAST, SINGLE, TILE_KINDS, tile_table
from fgnumba.kernels.tiling import grid, heights, parts_for, split, tile_count, tile_rows
from fgnumba.kernels.vector import PANEL, InstructionSet

CACHED_WEIGHTS = 256 * 1024
"""Bytes of a group of weight panels that the second-level cache keeps between products, beside all else."""

ARGUMENTS = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("x", "dx", "ld_x", "weight", "bias", "y", "ld_y"),
            *("batch", "inputs", "panels", "count", "first", "kind", "parameter", "bias_parameter", "stream"),
            *("v", "v_bias", "v_row", "column_parts", "row_parts", "tallest", "group", "k_block"),
            *("weight_tiles", "tangent_tiles", "draw", "draw_vector", "dot_rows", "activate", "combine"),
            *("scratch", "scratch_bytes", "at_slopes", "at_dots", "at_right", "at_shift", "at_drawn"),
        )
    ]
)


def bind(
    isa: InstructionSet,
    threads: int,
    *,
    x: npt.NDArray[np.float32],
    inputs: int,
    outputs: int,
    has_tangent: bool,
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    activation_name: str,
    y: npt.NDArray[np.float32],
    kind: int = NONE,
    count: int = 0,
    first: int = 0,
    parameter: int = 0,
    bias_parameter: int = -1,
    stream: npt.NDArray[Any] | None = None,
    v: npt.NDArray[np.float32] | None = None,
    v_bias: npt.NDArray[np.float32] | None = None,
) -> Operation:
    """Bind the dense layer to its arrays.

    Parameters
    ----------
    x : (1 + count, B, ld_x) float32, or (1, B, ld_x) without `has_tangent`: a symbolic zero, its product
        skipped.
    inputs : K, the columns of x that are read.
    outputs : N, the columns of y that count: a last panel that is partly padding takes narrower tiles.
    weight : packed (panels, K, PANEL), see :func:`fgnumba.kernels.packing.pack`.
    bias : (panels * PANEL,), zeros where the layer has none.
    y : (1 + count, B, ld_y), ld_y >= panels * PANEL; whole panels are written. Must not overlap x.
    kind, count, first : the kind of direction, how many, the index of the first in the counter.
    parameter, bias_parameter : indices in the counter; a `bias_parameter` of -1: no bias, its tangent is
        zero.
    stream : (1,) ``philox.STREAM``, read when the operation runs.
    v, v_bias : for EXPLICIT, (count, panels, K, PANEL) and (count, panels * PANEL).

    Cost: 1 + T products of B K N multiply-adds for rank-1 directions (1 where x has no tangent), 1 + 2 T
    for the others (1 + T). Reads W once from memory, once from the second-level cache a tile of rows and
    product.
    """
    batch, panels = x.shape[1], weight.shape[0]
    entries = {RADEMACHER: "signs", GAUSSIAN: "float", EXPLICIT: "float"}.get(kind)
    products = 1 + count * (has_tangent + (entries is not None))
    work = products * batch * inputs * panels * PANEL
    tallest = isa.max_rows
    parts = parts_for(work, max(panels, -(-batch // tallest)), threads)
    column_parts, row_parts = grid(panels, batch, parts)
    rows = -(-batch // row_parts)
    stacked = kind in (NONE, RANK1) and has_tangent and row_parts == 1
    tile_heights = set().union(
        *(
            heights((hi - lo) * (1 + count if stacked else 1), tallest)
            for lo, hi in (split(batch, row_parts, part) for part in range(row_parts))
        )
    )
    group = min(isa.panels(max(tile_heights)), 1 << (max(1, panels // column_parts).bit_length() - 1))
    last = outputs - (panels - 1) * PANEL
    weight_tiles = tile_table(isa, tile_heights, group, True, None, last)
    tangent_tiles = tile_table(isa, tile_heights, group, has_tangent, entries, last) if entries else None

    dual = count > 0
    columns, width = group * PANEL * 4, panels * PANEL * 4
    k_block, sums = inputs, min(tallest, rows * (1 + count)) * columns
    if entries and columns * inputs > CACHED_WEIGHTS and rows * (1 + count) * columns <= CACHED_WEIGHTS:
        k_block, sums = CACHED_WEIGHTS // columns, rows * (1 + count) * columns
    drawn = 0
    if kind == RANK1:
        vector_rows = max(panels, -(-inputs // PANEL))
        drawn = directions.draw_bytes(RANK1, vector_rows) + vector_rows * PANEL * 4
    elif kind in (RADEMACHER, GAUSSIAN):
        drawn = max(group * directions.draw_bytes(kind, k_block), directions.draw_bytes(kind, panels))
    sizes = (
        ("at_slopes", sums),
        ("at_dots", rows * columns * dual),
        ("at_right", count * rows * 4 * (kind == RANK1)),
        ("at_shift", count * width * (kind == RANK1)),
        ("at_drawn", count * width),
        ("scratch_bytes", drawn),
    )
    arguments = np.zeros(1, ARGUMENTS)
    end = 0
    for following, size in sizes:
        end += round_up(size, CACHE_LINE)
        arguments[following] = end
    draw = 0
    if kind in (RANK1, RADEMACHER):
        draw = directions.sign_words(isa)
    elif kind == GAUSSIAN:
        draw = directions.gaussians(isa)
    v_row = directions.draw_bytes(kind, k_block) if entries and kind != EXPLICIT else inputs * PANEL * 4
    fields = {
        "x": address(x),
        "dx": address(x) + batch * x.shape[2] * 4 if has_tangent else 0,
        "ld_x": x.shape[2],
        "weight": address(weight),
        "bias": address(bias),
        "y": address(y),
        "ld_y": y.shape[2],
        "batch": batch,
        "inputs": inputs,
        "panels": panels,
        "count": count,
        "first": first,
        "kind": kind,
        "parameter": parameter,
        "bias_parameter": bias_parameter,
        "stream": address(stream),
        "v": address(v),
        "v_bias": address(v_bias),
        "v_row": v_row,
        "column_parts": column_parts,
        "row_parts": row_parts,
        "tallest": tallest,
        "group": group,
        "k_block": k_block,
        "weight_tiles": address(weight_tiles),
        "tangent_tiles": address(tangent_tiles),
        "draw": draw,
        "draw_vector": directions.vector() if draw else 0,
        "dot_rows": epilogue.dot_rows() if kind == RANK1 else 0,
        "activate": activation(activation_name, slope=dual),
        "combine": epilogue.combine() if dual else 0,
    }
    for name, value in fields.items():
        arguments[name] = value
    return Operation(
        name="dense",
        entry=_entry(),
        arguments=arguments,
        parts=column_parts * row_parts,
        scratch_bytes=end,
        multiply_adds=products * batch * inputs * panels * PANEL,
        keeps=(x, weight, bias, y, stream, v, v_bias, weight_tiles, tangent_tiles),
    )


@cache
def _entry() -> int:
    return kernel("dense", _dense, 3)


def _dense(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    scratch = a.scratch + part * a.scratch_bytes
    p, p_end = split(a.panels, a.column_parts, part % a.column_parts)
    i, i_end = split(a.batch, a.row_parts, part // a.column_parts)
    rows = i_end - i
    if p == p_end or rows == 0:
        return
    if a.count > 0:
        _draw_vectors(a, scratch, i, rows)
    while p < p_end:
        group = a.group if p_end - p >= a.group else 1
        if a.kind == RANK1 and a.dx != 0 and rows == a.batch:
            _products(a, scratch, p, group, i, rows, 0, a.count, 0)
        elif a.k_block < a.inputs:
            for k in range(0, a.inputs, a.k_block):
                for t in range(a.count + 1):
                    _products(a, scratch, p, group, i, rows, t, t, k)
            for t in range(a.count + 1):
                sums = scratch + t * rows * group * PANEL * 4
                _finish(a, scratch, sums, t, i, 0, rows, rows, p, group)
        else:
            _products(a, scratch, p, group, i, rows, 0, 0, 0)
            for t in range(1, a.count + 1):
                if a.kind == RANK1 and a.dx == 0:
                    _finish(a, scratch, 0, t, i, 0, rows, rows, p, group)
                else:
                    _products(a, scratch, p, group, i, rows, t, t, 0)
        p += group


@register_jitable
def _products(
    a: Any, scratch: int, p: int, group: int, i: int, rows: int, first: int, last: int, k: int
) -> None:
    """Multiply examples i to i + rows of blocks `first` to `last` (0 the primal, t tangent t), from W's row k.

    Where K is one block, each tile is finished at once; else its sums are left in scratch memory.
    """
    whole = a.k_block == a.inputs
    length = min(a.k_block, a.inputs - k)
    x = a.x + (i * a.ld_x + k) * 4
    dx = x if first == 0 else a.dx + (((first - 1) * a.batch + i) * a.ld_x + k) * 4
    weight = a.weight + (p * a.inputs + k) * PANEL * 4
    tiles, v, v_stride = a.weight_tiles, 0, 0
    if first > 0 and a.kind != RANK1:
        tiles, v_stride = a.tangent_tiles, a.v_row // 4
        if a.kind == EXPLICIT:
            v = a.v + (((first - 1) * a.panels + p) * a.inputs + k) * PANEL * 4
        else:
            v = scratch + a.at_drawn
            stream = carray(pointer(a.stream, STREAM), 1)[0]
            c2 = ((a.first + first - 1) << DIRECTION_SHIFT) + a.parameter
            for panel in range(group):
                at = v + panel * a.v_row
                key = (c2, stream.step, stream.key_low, stream.key_high)
                call(a.draw, (k, length, p + panel, ENTRY, *key, at))
    addresses = carray(pointer(tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    kind = GROUP
    if group == 1:
        kind = LAST if p == a.panels - 1 else SINGLE
    total = rows * (1 + last - first)
    count = tile_count(total, a.tallest)
    row = 0
    for tile in range(count):
        height = tile_rows(total, count, tile)
        at = row * a.ld_x * 4
        out = scratch if whole else scratch + (first * rows + row) * group * PANEL * 4
        call(
            addresses[TILE_KINDS * height + kind],
            (length, dx + at, x + at, a.ld_x, weight, a.inputs * PANEL, v, v_stride, out, k),
        )
        done = 0
        while whole and done < height:
            t, at = first + (row + done) // rows, (row + done) % rows
            size = min(height - done, rows - at)
            z = scratch + done * group * PANEL * 4
            _finish(a, scratch, z, t, i, at, size, rows, p, group)
            done += size
        row += height


@register_jitable
def _finish(
    a: Any, scratch: int, z: int, t: int, i: int, at: int, size: int, rows: int, p: int, group: int
) -> None:
    """Epilogue of `size` rows from the part's row `at` on: t = 0 the primal, else tangent t."""
    columns = group * PANEL
    slopes = scratch + a.at_slopes + at * columns * 4
    y = a.y + ((t * a.batch + i + at) * a.ld_y + p * PANEL) * 4
    if t == 0:
        call(a.activate, (size, columns, z, a.bias + p * PANEL * 4, y, a.ld_y, slopes))
        return
    column = ((t - 1) * a.panels + p) * PANEL * 4
    shift = scratch + a.at_shift
    if a.kind == EXPLICIT and a.bias_parameter >= 0:
        shift = a.v_bias
    dots = 0
    if a.kind == RANK1:
        dots = scratch + a.at_dots + ((t - 1) * rows + at) * 4
    right = scratch + a.at_right + column
    call(a.combine, (size, columns, z, slopes, dots, right, shift + column, y, a.ld_y))


@register_jitable
def _draw_vectors(a: Any, scratch: int, i: int, rows: int) -> None:
    """Fill x·u, w and c of every direction: what does not depend on the panel."""
    work = scratch + a.at_drawn
    n = a.panels * PANEL
    for t in range(a.count):
        shift = scratch + a.at_shift + t * n * 4
        if a.kind == RANK1:
            left_n = (a.inputs + PANEL - 1) // PANEL * PANEL
            left = work + (left_n // PANEL + 63) // 64 * 256
            _draw_vector(a, t, left_n, LEFT, a.parameter, work, left)
            dots = scratch + a.at_dots + t * rows * 4
            call(a.dot_rows, (rows, a.inputs, a.x + i * a.ld_x * 4, a.ld_x, left, dots))
            _draw_vector(a, t, n, RIGHT, a.parameter, work, scratch + a.at_right + t * n * 4)
        if a.bias_parameter < 0:
            zeros = carray(pointer(shift, np.float32), n)
            for j in range(n):
                zeros[j] = np.float32(0)
        elif a.kind != EXPLICIT:
            _draw_vector(a, t, n, ENTRY, a.bias_parameter, work, shift)


@register_jitable
def _draw_vector(a: Any, t: int, n: int, purpose: int, parameter: int, work: int, out: int) -> None:
    stream = carray(pointer(a.stream, STREAM), 1)[0]
    c2 = ((a.first + t) << DIRECTION_SHIFT) + parameter
    call(
        a.draw_vector,
        (
            a.draw,
            np.int64(a.kind == GAUSSIAN),
            n,
            purpose,
            c2,
            stream.step,
            stream.key_low,
            stream.key_high,
            work,
            out,
        ),
    )
