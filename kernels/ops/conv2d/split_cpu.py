"""Two-dimensional convolution on the CPU whose factors are bfloat16, primal and tangents in one pass over an image.

    y    = a(x * W + b)
    dy_t = a'(z) (dx_t * W + x * V_t + c_t)

It computes what ``cpu.py`` does, in the precisions of the instruction set, see :mod:`fgnumba.kernels.emit.precision`.
All panels of W are split once a pass, and the images of a part once, zeros of their border included; θ stays float32.
If the channels of a group fill whole steps of a tile, rows of the product are read where they lie in the split images.
If not, as in a first layer of one or three channels, every row is copied, filled up with zeros, and then split. Of two
precisions, the one with fewer parts takes the first parts of the other, so that each operand is split only once.

The products x·u of rank-1 directions, biases, activations and slopes are float32, and so is a product whose precision
has no parts. Sums do not depend on how pixels are divided into tiles, and the results therefore not on the number of
threads.
"""

from collections.abc import Collection
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.geometry import BORDER_FIELDS, Geometry, border_fields, clear_border
from fgnumba.kernels.layout.images import Border, Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import CACHE_LINE, address, round_up
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import heights, tile_count, tile_rows
from fgnumba.kernels.ops.conv2d.rows import WALK_FIELDS, pixel_number, row_address, segments, walk, write_dots
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER, RANK1
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.shared.product import dot_tiles, dots, product
from fgnumba.kernels.shared.product.packed_panels import pack_panels
from fgnumba.kernels.shared.product.register_tiles import (
    GROUP,
    LAST,
    ONE_SEGMENT,
    SINGLE,
    TILE_KINDS,
    tile_table,
)

CACHED_ROWS = 512 * 1024
"""Bytes of copied rows that stay in the second-level cache while all panels are multiplied with them."""

CACHED_DIRECTIONS = 256 * 1024
"""Bytes of packed panels of V that stay in the second-level cache. If there are more, one is drawn at a time."""

CACHED_SLOPES = 16 * 1024
"""Bytes of slopes that stay in the first-level cache from the primal to its tangents."""

SHORT_RUN = 16
"""Elements from which on a run is copied by a loop of its own."""

_ONE = int(np.float32(1).view(np.int32))

ARGUMENTS = record(
    *product.FIELDS,
    *images.fields("x"),
    *images.fields("y"),
    *WALK_FIELDS,
    *("has_tangent", "width", "group_outputs", "group_panels"),
    *BORDER_FIELDS,
    *("slots", "block", "chunk", "v_row", "packed", "panel_words", "w_parts", "x_parts"),
    *("primal", "tangent", "dot_tallest", "split_primal", "split_tangent", "pack_tangent", "add"),
    *("gathered", "row_words", "part_words", "split_rows", "split_columns", "channels", "by_pixel"),
    *("split_image", "split_row", "split_step_row", "split_step_pixel"),
    *("split_segments", "split_offsets", "split_length"),
    *("at_rows", "at_copies", "at_panels", "at_signs", "at_numbers"),
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
    border: Border,
) -> list[Operation]:
    """Bind the packing of W, and the convolution, which is not channelwise.

    The parameters are those of :func:`fgnumba.kernels.ops.conv2d.cpu.bind`, and `border`, the border of x that is
    filled with zeros, which may be wider than the padding, because the gradient of W reads it, too.

    Notes
    -----
    Cost: the products of ``cpu.py``, each as many times as its precision has terms; one splitting of W, of the images,
    and of V for every part of the batch. Memory for each thread: the parts of its images or, if rows are copied, of
    up to `CACHED_ROWS` bytes of them.
    """
    channels = x.shape[2]
    height, width, outputs = y.shape
    kind, count, entries, inputs = weights.kind, weights.count, weights.entries, weights.inputs
    has_tangent = x.has_tangent and count > 0
    primal, tangent = PRECISIONS[isa.precision], PRECISIONS[isa.tangent_precision]
    groups = geometry.groups
    group_outputs, group_inputs = outputs // groups, channels // groups
    group_panels = -(-group_outputs // PANEL)
    walked, starts = walk(geometry, x, y, groups, group_inputs)
    x_parts = max(primal.parts, tangent.parts * (entries is not None))
    w_parts = max(primal.parts, tangent.parts * has_tangent)
    all_parts = x_parts + tangent.parts * count * has_tangent

    gathered = group_inputs % dot_tiles.DEPTH[isa.dots] > 0
    row_words, units = dot_tiles.padded(isa, inputs) // 2, images_a_part * height
    rows, columns = (x.shape[at] + sum(geometry.padding[2 * at : 2 * at + 2]) for at in range(2))
    split_x = replace(x, row=columns * channels, pixel=channels)
    chunk, part_words = units, images_a_part * rows * columns * channels // 2
    if gathered:
        row_bytes = groups * width * row_words * 4
        chunk = max(1, min(units, CACHED_ROWS // (row_bytes * max(1, all_parts))))
        part_words, runs, run_length = chunk * row_bytes // 4, ONE_SEGMENT, 2 * row_words
    else:
        runs, run_length = segments(geometry, split_x, group_inputs)
        runs = runs // 2
    part_words = round_up(part_words * 4, CACHE_LINE) // 4

    dot_heights = heights(width, dot_tiles.tallest(isa))
    float_heights = heights(width, isa.max_rows)
    group = 1 if isa.dots == "tiles" else isa.panels(max(float_heights))
    group = min(group, 1 << (group_panels.bit_length() - 1))
    last = group_outputs - (group_panels - 1) * PANEL
    values, kept = product.fields(
        isa,
        weights,
        activation_name,
        has_tangent,
        entries,
        (),
        group,
        last,
        tables=split_tables(isa, dot_heights, float_heights, group, last, has_tangent, entries),
    )

    stride = group * PANEL * 4
    drawn = entries is not None and kind != EXPLICIT
    slots = count if drawn or (entries and tangent.parts) else 0
    numbers = directions.draw_bytes(GAUSSIAN, inputs)
    v_row = row_words * PANEL * 4 * tangent.parts or (numbers if drawn else inputs * PANEL * 4)
    block = max(1, min(chunk, CACHED_SLOPES // (width * stride)))
    if slots * group * v_row > CACHED_DIRECTIONS:
        slots, block = 1, chunk
    dot_values, dot_regions, kept_tiles = dots.fields(
        isa, kind, count, inputs, groups * units * width, float_heights
    )
    regions = {
        **product.regions(weights, width * stride, block * width * stride, drawn=0),
        **dot_regions,
        "at_rows": all_parts * part_words * 4,
        "at_copies": gathered * width * row_words * 8,
        "at_panels": slots * group * v_row,
        "at_signs": directions.draw_bytes(RADEMACHER, inputs) * (kind == RADEMACHER),
        "at_numbers": numbers * (drawn and tangent.parts > 0),
    }
    offsets, end = lay_out(regions.items())
    addresses, memory = operands(x=x, y=y)
    packed, packing = None, []
    if w_parts:
        packed, pack = pack_panels(isa, threads, weights.weight, finer(isa, w_parts))
        packing = [pack]
    fields = {
        **values,
        **dot_values,
        **addresses,
        **walked,
        **images.part_fields(batch, images_a_part),
        "has_tangent": has_tangent,
        "width": width,
        "group_outputs": group_outputs,
        "group_panels": group_panels,
        **border_fields(x, border),
        "slots": slots,
        "block": block,
        "chunk": chunk,
        "v_row": v_row,
        "packed": address(packed),
        "panel_words": row_words * PANEL,
        "w_parts": w_parts,
        "x_parts": x_parts,
        "primal": primal.parts,
        "tangent": tangent.parts,
        "dot_tallest": dot_tiles.tallest(isa),
        "split_primal": dot_tiles.split_kernel(isa, finer(isa, x_parts)) if x_parts else 0,
        "split_tangent": dot_tiles.split_kernel(isa, tangent.name) if tangent.parts else 0,
        "pack_tangent": dot_tiles.pack_kernel(isa, tangent.name) if tangent.parts else 0,
        "add": directions.add_entries(gaussian=False) if kind == RADEMACHER else 0,
        "gathered": gathered,
        "row_words": row_words,
        "part_words": part_words,
        "split_rows": rows,
        "split_columns": columns,
        "channels": channels,
        "by_pixel": x.pixel != channels,
        "split_image": rows * split_x.row // 2,
        "split_row": split_x.row // 2,
        "split_step_row": geometry.stride[0] * split_x.row // 2,
        "split_step_pixel": row_words if gathered else geometry.stride[1] * channels // 2,
        "split_segments": len(runs),
        "split_offsets": address(runs),
        "split_length": run_length // 2,
        **{name: offset for name, offset in offsets.items() if name != "sums"},
    }
    return [
        *packing,
        Operation(
            name="conv2d",
            entry=_entry(),
            arguments=filled(ARGUMENTS, fields),
            scratch_bytes=end,
            multiply_adds=weights.products(has_tangent) * batch * height * width * inputs * outputs,
            local=memory["local"],
            external=memory["external"],
            keeps=(memory["keeps"], kept, starts, runs, packed, kept_tiles),
        ),
    ]


def finer(isa: InstructionSet, parts: int) -> str:
    """Return the one of the two precisions that has so many parts."""
    return next(name for name in (isa.precision, isa.tangent_precision) if PRECISIONS[name].parts == parts)


def split_tables(
    isa: InstructionSet,
    dot_heights: Collection[int],
    float_heights: Collection[int],
    group: int,
    last: int,
    has_tangent: bool,
    entries: str | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the addresses of the tiles of the primal, and of the tangents, each in its precision.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    dot_heights, float_heights : collection of int
        Heights of tiles of bfloat16, and of float32.
    group : int
        Panels of a wide tile.
    last : int
        Columns of the last panel.
    has_tangent : bool
        Whether the input has a tangent.
    entries : str or None
        The form in which the entries of V are drawn or given. Tiles of float32 read them as numbers.
    """
    primal, tangent = isa.precision, isa.tangent_precision
    if PRECISIONS[primal].parts:
        of_primal = dot_tiles.dot_table(isa, dot_heights, group, primal, last)
    else:
        of_primal = tile_table(isa, float_heights, group, True, None, last)
    if PRECISIONS[tangent].parts:
        return of_primal, dot_tiles.dot_table(isa, dot_heights, group, tangent, last)
    moved, form = has_tangent or not entries, entries and "float"
    return of_primal, tile_table(isa, float_heights, group, moved, form, last)


@cache
def _entry() -> int:
    return kernel("conv2d-split", _conv2d, 3)


def _conv2d(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    n = min(a.images, a.batch - part * a.images)
    if a.clear:
        clear_border(a, part, n)
    if a.kind == RANK1:
        write_dots(a, part, n)
    for t in range(a.count):
        product.draw_right_and_shift(a, t)
    units = n * a.height
    for begin in range(0, units, a.chunk):
        end = min(units, begin + a.chunk)
        for t in range(1 + a.count * a.has_tangent):
            if a.gathered:
                _copy(a, part, begin, end, t)
            else:
                _split(a, part, n, t)
        p = 0
        while p < a.panels:
            left = a.group_panels - p % a.group_panels
            group = a.group if left >= a.group else 1
            _panels(a, part, begin, end, p, group)
            p += group


@register_jitable
def _block(a: Any, t: int) -> int:
    """Return the address of the split images, or rows, of block t."""
    before = 0 if t == 0 else a.x_parts + (t - 1) * a.tangent
    return a.scratch + a.at_rows + before * a.part_words * 4


@register_jitable
def _splitter(a: Any, t: int) -> int:
    """Return the address of the kernel that splits rows of block t, 0 if none is read in parts."""
    return a.split_primal if t == 0 else a.split_tangent


@register_jitable
def _split(a: Any, part: int, n: int, t: int) -> None:
    """Split n images of block t, with their border."""
    splitter = _splitter(a, t)
    if splitter == 0:
        return
    for i in range(n):
        x = a.x + (part * a.x_part + t * a.x_block + i * a.x_image + a.origin) * 4
        out = _block(a, t) + i * a.split_image * 4
        if a.by_pixel:
            for row in range(a.split_rows):
                source, target = x + row * a.x_row * 4, out + row * a.split_row * 4
                pixel = a.channels // 2
                call(
                    splitter,
                    (a.split_columns, a.channels, source, a.x_pixel, target, pixel, a.part_words),
                )
        else:
            size = a.split_columns * a.channels
            call(splitter, (a.split_rows, size, x, a.x_row, out, a.split_row, a.part_words))


@register_jitable
def _copy(a: Any, part: int, begin: int, end: int, t: int) -> None:
    """Copy and split the rows of K elements under the kernel, for rows `begin` to `end` of the part's output."""
    splitter = _splitter(a, t)
    if splitter == 0:
        return
    starts = carray(pointer(a.offsets, np.int64), a.segments)
    padded = 2 * a.row_words
    copies = carray(pointer(a.scratch + a.at_copies, np.float32), (a.width, padded))
    for pixel in range(a.width):
        for k in range(a.inputs, padded):
            copies[pixel, k] = np.float32(0)
    for g in range(a.groups):
        for unit in range(begin, end):
            x = row_address(a, part, unit) + (t * a.x_block + g * a.group_inputs) * 4
            for s in range(a.segments):
                _copy_runs(a, x + starts[s] * 4, s * a.length, copies)
            out = _copied(a, t, g, unit - begin)
            call(splitter, (1, a.width * padded, a.scratch + a.at_copies, 0, out, 0, a.part_words))


@register_jitable
def _copy_runs(a: Any, x: int, first: int, copies: Any) -> None:
    """Copy a run of every pixel, the first of which lies at x, from column `first` on.

    A loop over few elements would take longer to begin than to end, so that short runs are copied column by column.
    """
    if a.length < SHORT_RUN:
        for k in range(a.length):
            elements = carray(pointer(x + k * 4, np.float32), (a.width - 1) * a.step_pixel + 1)
            for pixel in range(a.width):
                copies[pixel, first + k] = elements[pixel * a.step_pixel]
    else:
        for pixel in range(a.width):
            run = carray(pointer(x + pixel * a.step_pixel * 4, np.float32), a.length)
            for k in range(a.length):
                copies[pixel, first + k] = run[k]


@register_jitable
def _copied(a: Any, t: int, g: int, unit: int) -> int:
    """Return the address of the copied and split rows of a row of outputs, `unit` of those in memory."""
    return _block(a, t) + (g * a.chunk + unit) * a.width * a.row_words * 4


@register_jitable
def _panels(a: Any, part: int, begin: int, end: int, p: int, group: int) -> None:
    """Compute `group` panels of rows `begin` to `end` of outputs, in blocks of rows: the primal, then each tangent."""
    if a.slots == a.count:
        for t in range(a.slots):
            _draw(a, t, p, group, t)
    for first in range(begin, end, a.block):
        last = min(end, first + a.block)
        for t in range(1 + a.count):
            if t > 0 and a.slots == 1 and a.count > 1:
                _draw(a, t - 1, p, group, 0)
            for unit in range(first, last):
                _row(a, part, unit, begin, unit - first, t, p, group)


@register_jitable
def _draw(a: Any, t: int, p: int, group: int, slot: int) -> None:
    """Draw `group` panels of V_t, from panel p on, or take those given, and pack them if tangents are in parts."""
    for panel in range(group):
        out = a.scratch + a.at_panels + (slot * group + panel) * a.v_row
        numbers = a.scratch + a.at_numbers if a.tangent > 0 else out
        if a.kind == EXPLICIT:
            numbers = a.v + (t * a.panels + p + panel) * a.inputs * PANEL * 4
        elif a.kind == RADEMACHER:
            signs = a.scratch + a.at_signs
            product.draw_panel(a, t, p + panel, 0, a.inputs, signs)
            call(a.add, (_ONE, a.inputs, signs, numbers, 0))
        else:
            product.draw_panel(a, t, p + panel, 0, a.inputs, numbers)
        if a.tangent > 0:
            call(a.pack_tangent, (a.inputs, numbers, out, a.panel_words))


@register_jitable
def _row(a: Any, part: int, unit: int, begin: int, at: int, t: int, p: int, group: int) -> None:
    """Compute a row of outputs of block t (0: the primal). `at` is the row's place among the slopes that are kept."""
    g, q = p // a.group_panels, p % a.group_panels
    columns = min(group * PANEL, a.group_outputs - q * PANEL)
    i, row = unit // a.height, unit % a.height
    channel = g * a.group_outputs + q * PANEL
    y = a.y + (part * a.y_part + t * a.y_block + i * a.y_image + row * a.y_row + channel) * 4
    slopes = a.scratch + a.at_slopes + at * a.width * group * PANEL * 4
    rank1 = a.kind == RANK1
    dotted = dots.at(a, t - 1, pixel_number(a, g, unit)) if rank1 else 0
    if t > 0 and rank1 and not a.has_tangent:
        product.finish(a, t, p, a.width, columns, 0, slopes, dotted, y, a.y_pixel)
        return
    v, v_stride = 0, 0
    if t > 0 and a.kind != NONE and not rank1:
        slot = t - 1 if a.slots == a.count else 0
        v, v_stride = a.scratch + a.at_panels + slot * group * a.v_row, a.v_row // 4
        if a.slots == 0:
            v = a.v + ((t - 1) * a.panels + p) * a.v_row
    kind = GROUP
    if group == 1:
        kind = LAST if q == a.group_panels - 1 else SINGLE
    if (a.primal if t == 0 else a.tangent) == 0:
        _products(a, part, unit, g, t, p, group, kind, v, v_stride)
    else:
        onto = 0
        if t == 0 or a.has_tangent:
            weight = a.packed + p * a.w_parts * a.panel_words * 4
            _dots(a, unit, begin, g, t, t, group, kind, weight, a.w_parts * a.panel_words, 0)
            onto = 1
        if v != 0:
            _dots(a, unit, begin, g, 0, t, group, kind, v, v_stride, onto)
    product.finish(a, t, p, a.width, columns, a.scratch, slopes, dotted, y, a.y_pixel)


@register_jitable
def _dots(
    a: Any,
    unit: int,
    begin: int,
    g: int,
    factor: int,
    t: int,
    group: int,
    kind: int,
    w: int,
    w_stride: int,
    onto: int,
) -> None:
    """Multiply a row of outputs' rows of block `factor` with packed panels, in the precision of block t."""
    if a.gathered:
        x = _copied(a, factor, g, unit - begin)
    else:
        at = unit // a.height * a.split_image + unit % a.height * a.split_step_row
        x = _block(a, factor) + (at + g * a.group_inputs // 2) * 4
    tiles = a.weight_tiles if t == 0 else a.tangent_tiles
    addresses = carray(pointer(tiles, np.int64), TILE_KINDS * (a.dot_tallest + 1))
    count = tile_count(a.width, a.dot_tallest)
    run = (a.split_segments, a.split_offsets, a.split_length)
    pixel = 0
    for tile in range(count):
        size = tile_rows(a.width, count, tile)
        operand = (x + pixel * a.split_step_pixel * 4, a.part_words, a.split_step_pixel)
        out = a.scratch + pixel * group * PANEL * 4
        call(
            addresses[TILE_KINDS * size + kind],
            (*run, *operand, w, a.panel_words, w_stride, out, onto),
        )
        pixel += size


@register_jitable
def _products(
    a: Any, part: int, unit: int, g: int, t: int, p: int, group: int, kind: int, v: int, v_stride: int
) -> None:
    """Multiply a row of outputs' rows of block t with W, and those of the primal with V, in float32."""
    x = row_address(a, part, unit) + g * a.group_inputs * 4
    tiles = a.weight_tiles if t == 0 else a.tangent_tiles
    addresses = carray(pointer(tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    size = a.inputs * PANEL
    count = tile_count(a.width, a.tallest)
    pixel = 0
    for tile in range(count):
        height = tile_rows(a.width, count, tile)
        c = x + pixel * a.step_pixel * 4
        operands = (c + t * a.x_block * 4 * a.has_tangent, c, a.step_pixel, a.weight + p * size * 4, size)
        out = a.scratch + pixel * group * PANEL * 4
        call(
            addresses[TILE_KINDS * height + kind],
            (a.segments, a.offsets, a.length, *operands, v, v_stride, out, 0),
        )
        pixel += height
