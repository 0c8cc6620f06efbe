"""Convolution by Winograd's minimal filtering F(2x2, 3x3) on the CPU, whose factors are bfloat16.

It computes what ``winograd.py`` does, in the precisions of the instruction set, see
:mod:`fgnumba.kernels.emit.precision`. Factors are split after they are transformed: tiles of the input a few at a time,
while the first-level cache holds them, and weights once a pass. Transformations, and a product whose precision has no
parts, are float32.

A product's factors are sums of up to 16 pixels, and a pixel of the output is one of up to nine places. Roundings of
factors that are independent therefore grow to 5/3 of a direct convolution's: of 25 σ² in place of 9 σ² for each channel
(variances of the transformed pixels are 4, of the weights 1 or 3/4 along each axis).
"""

from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.geometry import BORDER_FIELDS, Geometry, border_fields, clear_border
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, aligned
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import heights, tile_count, tile_rows
from fgnumba.kernels.ops.conv2d.filtering import (
    INPUT,
    KERNEL,
    OUTPUT,
    PLACES,
    TAPS,
    needed_border,
    transform,
    transform_panel,
    transform_weights,
)
from fgnumba.kernels.ops.conv2d.split_cpu import finer, split_tables
from fgnumba.kernels.ops.conv2d.winograd import CACHED_TILES, corner, finish_pixels, write_dots
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, RADEMACHER, RANK1
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.shared.product import dot_tiles, dots, product
from fgnumba.kernels.shared.product.packed_panels import pack_panels
from fgnumba.kernels.shared.product.register_tiles import GROUP, LAST, ONE_SEGMENT, SINGLE, TILE_KINDS

CACHED_PIECE = 16 * 1024
"""Bytes of transformed tiles that stay in the first-level cache until they are split."""

_ONE = int(np.float32(1).view(np.int32))

ARGUMENTS = record(
    *product.FIELDS,
    *images.fields("x"),
    *images.fields("y"),
    *("batch", "images", "has_tangent", "height", "width", "across", "channels", "outputs"),
    *("offsets", "transformed", "origin", "apart", "stacked", "rows", "piece", "whole"),
    *("transform_input", "transform_output", "transform_weight", "add"),
    *("packed", "panel_words", "row_words", "w_parts", "x_parts", "primal", "tangent", "dot_tallest"),
    *("split_primal", "split_tangent", "pack_tangent", "v_place"),
    *("at_tiles", "at_split", "at_sums", "at_tangents", "at_entries", "at_moved", "at_signs"),
    *BORDER_FIELDS,
)


def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    y: Images,
    geometry: Geometry,
    weights: product.Weights,
    activation_name: str,
) -> list[Operation]:
    """Bind the transformation and packing of the weights, and the convolution, to their arrays.

    The parameters are those of :func:`fgnumba.kernels.ops.conv2d.winograd.bind`.

    Notes
    -----
    Cost: that of ``winograd.py``, with each product as many times as its precision has terms; and a splitting of every
    transformed tile, of the transformed weights once, and of those of V once for each part of the batch.
    """
    height, width, outputs = y.shape
    channels, panels = x.shape[2], weights.panels
    kind, count, entries = weights.kind, weights.count, weights.entries
    has_tangent = x.has_tangent and count > 0
    primal, tangent = PRECISIONS[isa.precision], PRECISIONS[isa.tangent_precision]
    across, row_words = -(-width // 2), dot_tiles.padded(isa, channels) // 2
    x_parts = max(primal.parts, tangent.parts * (entries is not None))
    w_parts = max(primal.parts, tangent.parts * has_tangent)
    # A tile of float32 takes as much memory as two parts.
    floats = not primal.parts or (count > 0 and not tangent.parts)

    apart = entries is not None or primal != tangent
    stacked = 1
    if not entries:
        stacked = CACHED_TILES // (
            PLACES * across * 4 * row_words * (max(x_parts, tangent.parts) + 2 * floats)
        )
        stacked = max(1, min(1 + count, stacked))
    blocks = _stacks(count, stacked, apart)
    rows = (2 if entries and count else max(blocks)) * across
    dot_heights, float_heights = (
        set().union(*(heights(n * across, tallest) for n in blocks))
        for tallest in (dot_tiles.tallest(isa), isa.max_rows)
    )
    group = 1 if isa.dots == "tiles" else isa.panels(max(float_heights))
    group = min(group, 1 << (panels.bit_length() - 1))
    last = outputs - (panels - 1) * PANEL
    tables = split_tables(isa, dot_heights, float_heights, group, last, has_tangent, entries)
    values, kept = product.fields(
        isa, weights, activation_name, has_tangent, entries, (), group, last, tables=tables
    )
    transformed = aligned((panels, PLACES, channels, PANEL))
    preparing, packed = [transform_weights(isa, threads, weights.weight, transformed)], None
    if w_parts:
        packed, pack = pack_panels(isa, threads, transformed, finer(isa, w_parts))
        preparing.append(pack)

    panel_words = row_words * PANEL
    v_place = panel_words * 4 * tangent.parts or channels * PANEL * 4
    piece = across if floats else max(1, min(across, CACHED_PIECE // (PLACES * channels * 4)))
    dot_values, dot_regions, kept_tiles = dots.fields(
        isa, kind, count, weights.inputs, images_a_part * height * width, heights(width, isa.max_rows)
    )
    given = entries is not None
    regions = {
        **product.regions(weights, 4 * across * group * PANEL * 4, 2 * width * panels * PANEL * 4, drawn=0),
        **dot_regions,
        "at_tiles": PLACES * (rows if floats else piece) * channels * 4,
        "at_split": PLACES * rows * row_words * 4 * max(x_parts, tangent.parts),
        "at_sums": PLACES * rows * group * PANEL * 4,
        "at_tangents": count * panels * PLACES * v_place * given,
        "at_entries": directions.draw_bytes(GAUSSIAN, weights.inputs) * (given and kind != EXPLICIT),
        "at_moved": PLACES * channels * PANEL * 4 * (given and tangent.parts > 0),
        "at_signs": directions.draw_bytes(RADEMACHER, weights.inputs) * (kind == RADEMACHER),
    }
    offsets, end = lay_out(regions.items())
    addresses, memory = operands(x=x, y=y)
    fields = {
        **values,
        **dot_values,
        **addresses,
        **images.part_fields(batch, images_a_part),
        "has_tangent": has_tangent,
        "height": height,
        "width": width,
        "across": across,
        "channels": channels,
        "outputs": outputs,
        "offsets": address(ONE_SEGMENT),
        "transformed": address(transformed),
        "origin": -(geometry.padding.top * x.row + geometry.padding.left * x.pixel),
        "apart": apart,
        "stacked": stacked,
        "rows": rows,
        "piece": piece,
        "whole": floats,
        "transform_input": transform(isa, "input", INPUT),
        "transform_output": transform(isa, "output", OUTPUT),
        "transform_weight": transform(isa, "kernel", KERNEL),
        "add": directions.add_entries(gaussian=False) if kind == RADEMACHER else 0,
        "packed": address(packed),
        "panel_words": panel_words,
        "row_words": row_words,
        "w_parts": w_parts,
        "x_parts": x_parts,
        "primal": primal.parts,
        "tangent": tangent.parts,
        "dot_tallest": dot_tiles.tallest(isa),
        "split_primal": dot_tiles.split_kernel(isa, finer(isa, x_parts)) if x_parts else 0,
        "split_tangent": dot_tiles.split_kernel(isa, tangent.name) if tangent.parts else 0,
        "pack_tangent": dot_tiles.pack_kernel(isa, tangent.name) if tangent.parts else 0,
        "v_place": v_place,
        **border_fields(x, needed_border(geometry, x.shape)),
        **{name: offset for name, offset in offsets.items() if name != "sums"},
    }
    return [
        *preparing,
        Operation(
            name="conv2d",
            entry=_entry(),
            arguments=filled(ARGUMENTS, fields),
            scratch_bytes=end,
            multiply_adds=weights.products(has_tangent) * batch * height * width * weights.inputs * outputs,
            executed=PLACES / (4 * TAPS),
            local=memory["local"],
            external=memory["external"],
            keeps=(memory["keeps"], kept, transformed, packed, kept_tiles),
        ),
    ]


@register_jitable
def _stack_end(first: int, count: int, stacked: int, apart: bool) -> int:
    """Return the end of the stack of blocks that begins at block `first`. The primal may be one of its own."""
    return 1 if first == 0 and apart else min(1 + count, first + stacked)


def _stacks(count: int, stacked: int, apart: bool) -> set[int]:
    """Return how many blocks the stacks have."""
    sizes, first = set(), 0
    while first < 1 + count:
        last = _stack_end(first, count, stacked, apart)
        sizes.add(last - first)
        first = last
    return sizes


@cache
def _entry() -> int:
    return kernel("conv2d-winograd-split", _conv2d, 3)


def _conv2d(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    n = min(a.images, a.batch - part * a.images)
    if a.clear:
        clear_border(a, part, n)
    entries = a.kind >= RADEMACHER and a.count > 0
    if a.kind == RANK1:
        write_dots(a, part, n)
    for t in range(a.count):
        product.draw_right_and_shift(a, t)
        if entries:
            for p in range(a.panels):
                _tangent_weights(a, t, p)
    down = (a.height + 1) // 2
    for unit in range(n * down):
        i, band = unit // down, unit % down
        first = 0
        while first < 1 + a.count:
            last = _stack_end(first, a.count, a.stacked, a.apart != 0)
            # Tiles of the primal, which are multiplied with V, stay beside those of a tangent.
            row = a.across if entries and first > 0 else 0
            for t in range(first, last):
                if t == 0 or a.has_tangent:
                    _tiles(a, part, i, band, t, row + (t - first) * a.across)
            p = 0
            while p < a.panels:
                group = a.group if a.panels - p >= a.group else 1
                _products(a, p, group, (last - first) * a.across, row, first)
                for t in range(first, last):
                    finish_pixels(a, part, i, band, t, (t - first) * a.across, p, group)
                p += group
            first = last


@register_jitable
def _tangent_weights(a: Any, t: int, p: int) -> None:
    """Transform panel p of V_t, and pack it if tangents are in parts."""
    size = a.channels * PANEL
    numbers = a.scratch + a.at_entries
    if a.kind == EXPLICIT:
        numbers = a.v + (t * a.panels + p) * TAPS * size * 4
    elif a.kind == RADEMACHER:
        signs = a.scratch + a.at_signs
        product.draw_panel(a, t, p, 0, a.inputs, signs)
        call(a.add, (_ONE, a.inputs, signs, numbers, 0))
    else:
        product.draw_panel(a, t, p, 0, a.inputs, numbers)
    out = a.scratch + a.at_tangents + (t * a.panels + p) * PLACES * a.v_place
    if a.tangent == 0:
        transform_panel(a.transform_weight, numbers, out, size)
        return
    moved = a.scratch + a.at_moved
    transform_panel(a.transform_weight, numbers, moved, size)
    for place in range(PLACES):
        target = out + place * a.v_place
        call(a.pack_tangent, (a.channels, moved + place * size * 4, target, a.panel_words))


@register_jitable
def _tiles(a: Any, part: int, i: int, band: int, t: int, first: int) -> None:
    """Transform a row of tiles of block t, and split them, from row `first` of every place on."""
    splitter = a.split_primal if t == 0 else a.split_tangent
    capacity = a.rows if a.whole else a.piece
    plane = capacity * a.channels
    for begin in range(0, a.across, a.piece):
        n = min(a.piece, a.across - begin)
        tiles = a.scratch + a.at_tiles + (first * a.channels * 4 if a.whole else 0)
        source = corner(a, part, t, i, 2 * band) + begin * 2 * a.x_pixel * 4
        step = (2 * a.x_pixel, a.channels, a.channels)
        call(a.transform_input, (n, *step, source, a.x_row, a.x_pixel, tiles, 4 * plane, plane))
        if splitter != 0:
            for place in range(PLACES):
                at = (place * a.rows + first + begin) * a.row_words
                operand = (tiles + place * plane * 4, a.channels)
                part_words = PLACES * a.rows * a.row_words
                target = (a.scratch + a.at_split + at * 4, a.row_words, part_words)
                if a.channels == 2 * a.row_words:
                    call(splitter, (1, n * a.channels, *operand, *target))
                else:
                    call(splitter, (n, a.channels, *operand, *target))


@register_jitable
def _products(a: Any, p: int, group: int, rows: int, at: int, t: int) -> None:
    """Multiply `rows` rows of tiles, from row `at` on, by `group` panels, in the precision of block t."""
    v = 0
    if t > 0 and a.kind >= RADEMACHER:
        v = a.scratch + a.at_tangents + ((t - 1) * a.panels + p) * PLACES * a.v_place
    kind = GROUP
    if group == 1:
        kind = LAST if p == a.panels - 1 else SINGLE
    tiles = a.weight_tiles if t == 0 else a.tangent_tiles
    for place in range(PLACES):
        out = a.scratch + a.at_sums + place * a.rows * group * PANEL * 4
        if (a.primal if t == 0 else a.tangent) == 0:
            _floats(a, tiles, p, group, kind, rows, at, place, v, out)
            continue
        onto = 0
        if t == 0 or a.has_tangent:
            panel = a.w_parts * a.panel_words
            weight = a.packed + (p * PLACES + place) * panel * 4
            _dots(a, tiles, group, kind, rows, at, place, weight, PLACES * panel, out, 0)
            onto = 1
        if v != 0:
            entries = v + place * a.v_place
            _dots(a, tiles, group, kind, rows, 0, place, entries, PLACES * a.v_place // 4, out, onto)


@register_jitable
def _dots(
    a: Any,
    tiles: int,
    group: int,
    kind: int,
    rows: int,
    at: int,
    place: int,
    w: int,
    w_stride: int,
    out: int,
    onto: int,
) -> None:
    """Multiply split tiles of one place with packed panels."""
    addresses = carray(pointer(tiles, np.int64), TILE_KINDS * (a.dot_tallest + 1))
    count = tile_count(rows, a.dot_tallest)
    x = a.scratch + a.at_split + (place * a.rows + at) * a.row_words * 4
    row = 0
    for tile in range(count):
        height = tile_rows(rows, count, tile)
        operand = (x + row * a.row_words * 4, PLACES * a.rows * a.row_words, a.row_words)
        sums = out + row * group * PANEL * 4
        call(
            addresses[TILE_KINDS * height + kind],
            (1, a.offsets, a.row_words, *operand, w, a.panel_words, w_stride, sums, onto),
        )
        row += height


@register_jitable
def _floats(
    a: Any,
    tiles: int,
    p: int,
    group: int,
    kind: int,
    rows: int,
    at: int,
    place: int,
    v: int,
    out: int,
) -> None:
    """Multiply tiles of one place with W, and those of the primal with V, in float32."""
    size = a.channels * PANEL
    addresses = carray(pointer(tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    count = tile_count(rows, a.tallest)
    x = a.scratch + a.at_tiles + place * a.rows * a.channels * 4
    weight = (a.transformed + (p * PLACES + place) * size * 4, PLACES * size)
    entries = (v + place * size * 4, PLACES * size)
    row = 0
    for tile in range(count):
        height = tile_rows(rows, count, tile)
        operand = (x + (at + row) * a.channels * 4, x + row * a.channels * 4, a.channels)
        sums = out + row * group * PANEL * 4
        call(
            addresses[TILE_KINDS * height + kind],
            (1, a.offsets, a.channels, *operand, *weight, *entries, sums, 0),
        )
        row += height
