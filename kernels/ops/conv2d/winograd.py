"""Convolution by Winograd's minimal filtering F(2x2, 3x3): 2.25 times fewer products for 3x3 kernels of stride 1.

    Y = Aᵀ [ Σ_c (G W Gᵀ) ⊙ (Bᵀ X B) ] A

X is a 4x4 tile of the input, Y a 2x2 tile of the output, and W a 3x3 kernel. In each of the 16 places of a transformed
tile, the sum over channels is a matrix product, tiles by channels by outputs, computed by the usual register tile. One
row of tiles is transformed at a time, and stays in the cache. Weights are transformed once a pass. Tangents of the
weights that are not of rank 1 are transformed once for each part of the batch.

Everything is linear in X and in W, so tangents are computed in the same way: dx with W, and x with V, added up before
the output is transformed. For rank-1 directions, x * V = (x * u) w is computed as in a direct convolution.

The matrices contain only 0, ±1 and ±1/2; rounding errors are a small multiple of a direct convolution's.

Source: A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308, section 4.1.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
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
from fgnumba.kernels.rules.directions import EXPLICIT, RADEMACHER, RANK1
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.shared.product import dots, product
from fgnumba.kernels.shared.product.register_tiles import GROUP, LAST, ONE_SEGMENT, SINGLE, TILE_KINDS

CACHED_TILES = 256 * 1024
"""Bytes of transformed tiles that the second-level cache holds. Directions beyond that are computed later."""

_ONE = int(np.float32(1).view(np.int32))

ARGUMENTS = record(
    *product.FIELDS,
    *images.fields("x"),
    *images.fields("y"),
    *("batch", "images", "has_tangent", "height", "width", "across", "channels", "outputs"),
    *("offsets", "transformed"),
    *("origin", "stacked", "rows", "transform_input", "transform_output", "transform_weight", "add"),
    *("at_tiles", "at_sums", "at_tangents", "at_entries", "at_signs"),
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
    """Bind the transformation of the weights, and the convolution, to their arrays.

    The parameters are those of :func:`fgnumba.kernels.ops.conv2d.cpu.bind`, but the border of x is at least
    :func:`needed_border`.

    Notes
    -----
    Cost: 16 products of C N multiply-adds for each tile of 2 x 2 pixels, where a direct convolution has 36; 32
    additions for each element of x, and 24 for each place and output. Reads the transformed weights, 16/9 the size of
    W, once for each row of tiles.
    """
    height, width, outputs = y.shape
    channels, panels = x.shape[2], weights.panels
    kind, count = weights.kind, weights.count
    has_tangent = x.has_tangent and count > 0
    across = -(-width // 2)
    if weights.entries:
        # The primal's tiles stay beside those of one tangent.
        stacked, rows, row_counts = 1, 2 * across, {across}
    else:
        stacked = max(1, min(1 + count, CACHED_TILES // (PLACES * across * channels * 4)))
        rows = stacked * across
        row_counts = {rows, (1 + count) % stacked * across or rows}
    tile_heights = set().union(*(heights(n, isa.max_rows) for n in row_counts))
    group = min(isa.panels(max(tile_heights)), 1 << (panels.bit_length() - 1))
    last = outputs - (panels - 1) * PANEL
    values, kept = product.fields(
        isa, weights, activation_name, has_tangent, weights.entries and "float", tile_heights, group, last
    )
    transformed = aligned((panels, PLACES, channels, PANEL))
    panel_bytes = PLACES * channels * PANEL * 4
    drawn = weights.entries is not None and kind != EXPLICIT
    slopes = 2 * width * panels * PANEL * 4
    dot_values, dot_regions, dot_tiles = dots.fields(
        isa, kind, count, weights.inputs, images_a_part * height * width, heights(width, isa.max_rows)
    )
    sums = 4 * across * group * PANEL * 4
    regions = {**product.regions(weights, sums, slopes, drawn=0), **dot_regions}
    offsets, end = lay_out(
        [
            *regions.items(),
            ("at_tiles", PLACES * rows * channels * 4),
            ("at_sums", PLACES * rows * group * PANEL * 4),
            ("at_tangents", count * panels * panel_bytes * (weights.entries is not None)),
            ("at_entries", weights.inputs * PANEL * 4 * drawn),
            ("at_signs", directions.draw_bytes(RADEMACHER, weights.inputs) * (kind == RADEMACHER)),
        ]
    )
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
        "stacked": stacked,
        "rows": rows,
        "transform_input": transform(isa, "input", INPUT),
        "transform_output": transform(isa, "output", OUTPUT),
        "transform_weight": transform(isa, "kernel", KERNEL),
        "add": directions.add_entries(gaussian=False) if kind == RADEMACHER else 0,
        **border_fields(x, needed_border(geometry, x.shape)),
        **{name: offset for name, offset in offsets.items() if name != "sums"},
    }
    return [
        transform_weights(isa, threads, weights.weight, transformed),
        Operation(
            name="conv2d",
            entry=_entry(),
            arguments=filled(ARGUMENTS, fields),
            scratch_bytes=end,
            multiply_adds=weights.products(has_tangent) * batch * height * width * weights.inputs * outputs,
            executed=PLACES / (4 * TAPS),
            local=memory["local"],
            external=memory["external"],
            keeps=(memory["keeps"], kept, transformed, dot_tiles),
        ),
    ]


@cache
def _entry() -> int:
    return kernel("conv2d-winograd", _conv2d, 3)


def _conv2d(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    n = min(a.images, a.batch - part * a.images)
    if a.clear:
        clear_border(a, part, n)
    low_rank = a.kind < RADEMACHER or a.count == 0
    if a.kind == RANK1:
        write_dots(a, part, n)
    for t in range(a.count):
        product.draw_right_and_shift(a, t)
        if not low_rank:
            for p in range(a.panels):
                _tangent_weights(a, t, p)
    down = (a.height + 1) // 2
    for unit in range(n * down):
        i, band = unit // down, unit % down
        if low_rank:
            for first in range(0, 1 + a.count, a.stacked):
                last = min(1 + a.count, first + a.stacked)
                for t in range(first, last):
                    _tiles(a, part, i, band, t, (t - first) * a.across)
                _panels(a, part, i, band, first, last, 0)
        else:
            _tiles(a, part, i, band, 0, 0)
            _panels(a, part, i, band, 0, 1, 0)
            for t in range(1, 1 + a.count):
                if a.has_tangent:
                    _tiles(a, part, i, band, t, a.across)
                _panels(a, part, i, band, t, t + 1, a.across)


@register_jitable
def corner(a: Any, part: int, t: int, i: int, row: int) -> int:
    """Return the address of the first pixel under the kernel for a row of pixels of block t of example i."""
    return a.x + (part * a.x_part + t * a.x_block + i * a.x_image + row * a.x_row + a.origin) * 4


@register_jitable
def write_dots(a: Any, part: int, n: int) -> None:
    """Write x * u for every direction and output pixel."""
    starts = carray(pointer(a.scratch, np.int64), 3)
    for tap in range(3):
        starts[tap] = tap * a.x_row
    for block in range(dots.blocks(a)):
        u = dots.draw(a, block, product.draw_vector)
        for unit in range(n * a.height):
            x = corner(a, part, 0, unit // a.height, unit % a.height)
            dots.write(a, block, u, a.width, 3, a.scratch, 3 * a.channels, x, a.x_pixel, unit * a.width)


@register_jitable
def _tangent_weights(a: Any, t: int, p: int) -> None:
    """Transform panel p of V_t."""
    size = a.channels * PANEL
    entries = a.scratch + a.at_entries
    if a.kind == EXPLICIT:
        entries = a.v + (t * a.panels + p) * TAPS * size * 4
    elif a.kind == RADEMACHER:
        signs = a.scratch + a.at_signs
        product.draw_panel(a, t, p, 0, a.inputs, signs)
        call(a.add, (_ONE, a.inputs, signs, entries, 0))
    else:
        product.draw_panel(a, t, p, 0, a.inputs, entries)
    out = a.scratch + a.at_tangents + (t * a.panels + p) * PLACES * size * 4
    transform_panel(a.transform_weight, entries, out, size)


@register_jitable
def _tiles(a: Any, part: int, i: int, band: int, t: int, first: int) -> None:
    """Transform a row of tiles of block t, and write them from row `first` of every place on."""
    plane = a.rows * a.channels
    call(
        a.transform_input,
        (
            a.across,
            2 * a.x_pixel,
            a.channels,
            a.channels,
            corner(a, part, t, i, 2 * band),
            a.x_row,
            a.x_pixel,
            a.scratch + a.at_tiles + first * a.channels * 4,
            4 * plane,
            plane,
        ),
    )


@register_jitable
def _panels(a: Any, part: int, i: int, band: int, first: int, last: int, at: int) -> None:
    """Multiply and finish blocks `first` to `last` of a row of tiles. Their transformed tiles begin at row `at`."""
    p = 0
    while p < a.panels:
        group = a.group if a.panels - p >= a.group else 1
        _products(a, p, group, (last - first) * a.across, at, first)
        for t in range(first, last):
            finish_pixels(a, part, i, band, t, (t - first) * a.across, p, group)
        p += group


@register_jitable
def _products(a: Any, p: int, group: int, rows: int, at: int, t: int) -> None:
    """Multiply `rows` rows of tiles by `group` panels, in all places."""
    size = a.channels * PANEL
    tiles, v = a.weight_tiles, 0
    if t > 0:
        tiles = a.tangent_tiles
    if t > 0 and a.kind >= RADEMACHER:
        v = a.scratch + a.at_tangents + ((t - 1) * a.panels + p) * PLACES * size * 4
    kind = GROUP
    if group == 1:
        kind = LAST if p == a.panels - 1 else SINGLE
    addresses = carray(pointer(tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    count = tile_count(rows, a.tallest)
    for place in range(PLACES):
        tile_row = a.scratch + a.at_tiles + place * a.rows * a.channels * 4
        out = a.scratch + a.at_sums + place * a.rows * group * PANEL * 4
        weight = a.transformed + (p * PLACES + place) * size * 4
        row = 0
        for tile in range(count):
            height = tile_rows(rows, count, tile)
            call(
                addresses[TILE_KINDS * height + kind],
                (
                    1,
                    a.offsets,
                    a.channels,
                    tile_row + (at + row) * a.channels * 4,
                    tile_row + row * a.channels * 4,
                    a.channels,
                    weight,
                    PLACES * size,
                    v + place * size * 4,
                    PLACES * size,
                    out + row * group * PANEL * 4,
                    0,
                ),
            )
            row += height


@register_jitable
def finish_pixels(a: Any, part: int, i: int, band: int, t: int, at: int, p: int, group: int) -> None:
    """Transform a row of tiles of block t back, and apply the epilogue to its two rows of pixels."""
    stride = group * PANEL
    plane = a.rows * stride
    row_size = 2 * a.across * stride
    sums = a.scratch + a.at_sums + at * stride * 4
    call(
        a.transform_output,
        (a.across, stride, 2 * stride, stride, sums, 4 * plane, plane, a.scratch, row_size, stride),
    )
    columns = min(stride, a.outputs - p * PANEL)
    for half in range(2):
        row = 2 * band + half
        if row < a.height:
            slopes = a.scratch + a.at_slopes + (p * 2 * PANEL + half * stride) * a.width * 4
            dotted = dots.at(a, t - 1, (i * a.height + row) * a.width) if a.kind == RANK1 else 0
            y = a.y + (part * a.y_part + t * a.y_block + i * a.y_image + row * a.y_row + p * PANEL) * 4
            z = a.scratch + half * row_size * 4
            product.finish(a, t, p, a.width, columns, z, slopes, dotted, y, a.y_pixel)
