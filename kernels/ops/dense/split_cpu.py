"""Dense layer on the CPU whose factors are bfloat16: primal and tangents in one pass.

    y    = a(x W + b)
    dy_t = a'(z) (dx_t W + x V_t + c_t)        for every direction t

It computes what ``cpu.py`` does, in the precisions of the instruction set, see :mod:`fgnumba.kernels.emit.precision`.
The rows of x are split once, in chunks that stay in the second-level cache, and every panel of W is split once, when it
is read for the first time; θ stays float32. The products x·u of rank-1 directions, biases, activations and slopes are
float32. If the primal's products are float32 and the tangents' are not, or the other way round, each has tiles of its
own; if both have the same precision and V is of rank 1, primal and tangents are rows of a single product with W.

A sum over K does not depend on how the rows are divided, so that the results do not depend on the number of threads.
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
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, round_up
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import grid, heights, range_sizes, split, threads_for, tile_count, tile_rows
from fgnumba.kernels.ops.dense import drawing_cpu
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER, RANK1
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.shared.product import dot_tiles, dots, product
from fgnumba.kernels.shared.product.dot_tiles import GROUP_ROWS
from fgnumba.kernels.shared.product.register_tiles import (
    GROUP,
    LAST,
    ONE_SEGMENT,
    SINGLE,
    TILE_KINDS,
    tile_table,
)

CACHED_ROWS = {"pairs": 512 * 1024, "quads": 512 * 1024, "tiles": 1280 * 1024}
"""Bytes of split rows of x that stay in the second-level cache while all panels are multiplied with them, by the way of
multiplying. Processors whose instructions read tiles have second-level caches of 2 MB."""

KEPT = 8 * 1024 * 1024
"""Bytes of packed panels that are kept for all chunks of rows. More are packed anew for each: reading what was kept
would take longer."""

CACHED_BLOCK = {1: 256, 2: 128, 3: 64}
"""Elements of K whose part of a panel stays in the first-level cache, by the number of parts, for instructions that
read tiles."""

_ONE = int(np.float32(1).view(np.int32))

ARGUMENTS = record(
    *product.FIELDS,
    *images.fields("x"),
    *images.fields("y"),
    *("has_tangent", "batch", "offsets", "column_parts", "row_parts", "chunk", "slots"),
    *("stacked", "same", "grouped", "shares", "v_row"),
    *("row_words", "panel_words", "dot_tallest", "primal", "tangent", "add", "configurations"),
    *("primal_block", "tangent_block", "keeps"),
    *("split_primal", "split_tangent", "pack_primal", "pack_tangent"),
    *("at_sums", "at_x", "at_moved"),
    *("at_weight", "at_tangent_weight", "at_entries", "at_signs", "at_numbers"),
)


def suits(isa: InstructionSet, batch: int, panels: int) -> bool:
    """Whether a precision of `isa` has parts, and float32, where it may stand for it, is slower."""
    return isa.splits and not dot_tiles.float_is_faster(isa, batch, panels)


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
    """Bind the dense layer to its arrays. The parameters are those of :func:`fgnumba.kernels.ops.dense.cpu.bind`.

    Notes
    -----
    Cost: the products of ``cpu.py``, each as many times as its precision has terms; one splitting of x and its tangents
    for every thread, and of W and V for every part of the rows. Memory for each thread: the parts of a chunk of rows,
    and of a group of panels, or of all of a thread's panels, up to `KEPT`, if there are several chunks.
    """
    inputs, panels, has_tangent = weights.inputs, weights.panels, x.has_tangent and weights.count > 0
    kind, count, entries = weights.kind, weights.count, weights.entries
    primal, tangent = PRECISIONS[isa.precision], PRECISIONS[isa.tangent_precision]
    moves = count > 0 and (has_tangent or entries is not None)
    same = primal == tangent
    work = weights.products(has_tangent) * batch * inputs * panels * PANEL
    sharing = threads_for(work, max(panels, -(-batch // isa.max_rows)), threads)
    column_parts, row_parts = grid(panels, batch, sharing)
    rows = -(-batch // row_parts)
    stacked = same and kind in (NONE, RANK1) and has_tangent
    blocks = 1 + count * has_tangent

    row_words, tallest = dot_tiles.padded(isa, inputs) // 2, dot_tiles.tallest(isa)
    row_bytes = 4 * row_words * (primal.parts + (not same and moves) * tangent.parts * blocks)
    if same:
        row_bytes = 4 * row_words * primal.parts * blocks
    chunk = min(rows, max(tallest, CACHED_ROWS[isa.dots] // max(1, row_bytes) // tallest * tallest))
    across = -(-panels // column_parts)
    several = rows > chunk and 4 * row_words * PANEL * across * _packed_parts(isa, has_tangent) <= KEPT
    sizes = {
        min(chunk, size - first) for size in range_sizes(batch, row_parts) for first in range(0, size, chunk)
    }
    grouped = isa.dots == "tiles"
    each = {n * (1 + count if stacked else 1) for n in sizes}
    dot_heights = set().union(*(_whole_tiles(n, tallest) if grouped else heights(n, tallest) for n in each))
    float_heights = set().union(*(heights(n, isa.max_rows) for n in sizes))
    most = max(dot_heights | float_heights)
    group = 1 if grouped else isa.panels(min(most, isa.max_rows))
    group = min(group, 1 << (max(1, panels // column_parts).bit_length() - 1))
    last = outputs - (panels - 1) * PANEL

    def table(precision: str) -> Any:
        if PRECISIONS[precision].parts:
            return dot_tiles.dot_table(isa, dot_heights, group, precision, last, grouped)
        return tile_table(isa, float_heights, group, True, None, last)

    tables = table(isa.precision), table(isa.tangent_precision)
    v_table = None
    if entries and not tangent.parts:
        v_table = tile_table(isa, float_heights, group, has_tangent, "float", last)
        tables = tables[0], v_table
    values, kept = product.fields(
        isa, weights, activation_name, has_tangent, entries, (), group, last, tables=tables
    )

    # The first parts of W, if the tangents take fewer than the primal.
    shares = not same and has_tangent and primal.parts > tangent.parts > 0
    keeps = several or shares or (same and has_tangent and not stacked)
    blocks_of_k = [
        min(CACHED_BLOCK[each.parts] // 2, row_words) if grouped and each.parts else row_words
        for each in (primal, tangent)
    ]
    configurations = dot_tiles.configuration_table(isa, dot_heights) if grouped else None
    block_rows = round_up(chunk, dot_tiles.GROUP_ROWS) if grouped else chunk
    panel_words = row_words * PANEL
    slots = across if several else group
    columns = group * PANEL * 4
    sums = chunk * (1 + count if stacked else 1) * columns
    drawn = entries is not None and kind != EXPLICIT
    v_row = directions.draw_bytes(GAUSSIAN, inputs) if drawn else inputs * PANEL * 4
    dot_values, dot_regions, kept_dots = dots.fields(
        isa, kind, count, inputs, rows, drawing_cpu.dot_heights(isa, batch, row_parts)
    )
    regions = {
        **product.regions(weights, sums, chunk * columns, 0),
        **dot_regions,
        "at_x": 4 * row_words * block_rows * primal.parts * (blocks if same else 1),
        "at_moved": 4 * row_words * block_rows * tangent.parts * blocks * (not same and moves),
        "at_weight": 4 * (panel_words if keeps else blocks_of_k[0] * PANEL) * primal.parts * slots,
        "at_tangent_weight": 4
        * panel_words
        * tangent.parts
        * slots
        * (not same and not shares and has_tangent),
        "at_entries": 4 * blocks_of_k[1] * PANEL * tangent.parts * group * (entries is not None),
        "at_signs": directions.draw_bytes(RADEMACHER, inputs) * (kind == RADEMACHER),
        "at_numbers": group * v_row * drawn,
    }
    offsets, end = lay_out(regions.items())
    at_sums = offsets.pop("sums")
    if same:
        offsets["at_moved"] = offsets["at_x"]
    if same or shares:
        offsets["at_tangent_weight"] = offsets["at_weight"]
    addresses, memory = operands(x=x, y=y)
    split_rows = dot_tiles.group_kernel if grouped else dot_tiles.split_kernel
    fields = {
        **values,
        **dot_values,
        **addresses,
        **offsets,
        "at_sums": at_sums,
        "has_tangent": has_tangent,
        "batch": batch,
        "offsets": address(ONE_SEGMENT),
        "column_parts": column_parts,
        "row_parts": row_parts,
        "chunk": chunk,
        "slots": slots if several else 0,
        "primal_block": blocks_of_k[0],
        "tangent_block": blocks_of_k[1],
        "keeps": keeps,
        "configurations": address(configurations),
        "stacked": stacked,
        "same": same,
        "grouped": grouped,
        "shares": shares,
        "v_row": v_row,
        "row_words": row_words,
        "panel_words": panel_words,
        "dot_tallest": tallest,
        "primal": primal.parts,
        "tangent": tangent.parts,
        "add": directions.add_entries(gaussian=False) if kind == RADEMACHER else 0,
        "split_primal": split_rows(isa, primal.name) if primal.parts else 0,
        "split_tangent": split_rows(isa, tangent.name) if tangent.parts else 0,
        "pack_primal": dot_tiles.pack_kernel(isa, primal.name) if primal.parts else 0,
        "pack_tangent": dot_tiles.pack_kernel(isa, tangent.name) if tangent.parts else 0,
    }
    return Operation(
        name="dense",
        entry=_entry(),
        arguments=filled(ARGUMENTS, fields),
        parts=column_parts * row_parts,
        scratch_bytes=end,
        multiply_adds=weights.products(has_tangent) * batch * inputs * outputs,
        external=memory["external"],
        keeps=(memory["keeps"], kept, kept_dots, configurations),
    )


def _packed_parts(isa: InstructionSet, has_tangent: bool) -> int:
    """Return how many parts of W are packed."""
    primal, tangent = (PRECISIONS[name].parts for name in (isa.precision, isa.tangent_precision))
    return primal + tangent * (has_tangent and tangent > primal)


def _whole_tiles(rows: int, tallest: int) -> set[int]:
    """Return the heights of tiles that begin at multiples of `tallest` rows."""
    return {min(tallest, rows), rows % tallest or tallest}


@cache
def _entry() -> int:
    return kernel("dense-split", _dense, 3)


def _dense(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    p_begin, p_end = split(a.panels, a.column_parts, part % a.column_parts)
    i_begin, i_end = split(a.batch, a.row_parts, part // a.column_parts)
    if p_begin == p_end or i_begin == i_end:
        return
    drawing_cpu.draw(a, i_begin, i_end - i_begin)
    for i in range(i_begin, i_end, a.chunk):
        n = min(a.chunk, i_end - i)
        _split(a, i, n)
        p = p_begin
        while p < p_end:
            group = a.group if p_end - p >= a.group else 1
            slot = p - p_begin if a.slots > 0 else 0
            _panels(a, i, n, i - i_begin, p, group, slot, i == i_begin or a.slots == 0)
            p += group
    if a.grouped:
        configurations = carray(pointer(a.configurations, np.int64), 1)
        call(configurations[0], (0,))


@register_jitable
def _split(a: Any, i: int, n: int) -> None:
    """Split examples i to i + n, and their tangents."""
    x = a.x + i * a.x_image * 4
    if a.primal > 0:
        _split_block(a, a.split_primal, n, x, 0, a.scratch + a.at_x, _part(a, n, True))
    if a.tangent == 0:
        return
    out, part = a.scratch + a.at_moved, _part(a, n, False)
    if a.kind >= RADEMACHER and not a.same:
        _split_block(a, a.split_tangent, n, x, 0, out, part)
    for t in range(1, 1 + a.count * a.has_tangent):
        _split_block(a, a.split_tangent, n, x + t * a.x_block * 4, t, out, part)


@register_jitable
def _split_block(a: Any, split_rows: int, n: int, x: int, t: int, out: int, part: int) -> None:
    """Split n rows from the address x on, as those of block t."""
    first, words = t * _block_rows(a, n), a.row_words
    if a.grouped:
        call(split_rows, (n, a.inputs, x, a.x_image, first, out, GROUP_ROWS * words, part))
    else:
        call(split_rows, (n, a.inputs, x, a.x_image, out + first * words * 4, words, part))


@register_jitable
def _block_rows(a: Any, n: int) -> int:
    """Return the split rows from a block, the primal or a tangent of n examples, to the next."""
    if a.grouped and not a.stacked:
        return (n + GROUP_ROWS - 1) // GROUP_ROWS * GROUP_ROWS
    return n


@register_jitable
def _part(a: Any, n: int, primal: bool) -> int:
    """Return the words from a part of the split rows to the next."""
    blocks = 1 + a.count * a.has_tangent
    if primal and not a.same:
        blocks = 1
    rows = blocks * _block_rows(a, n)
    if a.grouped:
        rows = (rows + GROUP_ROWS - 1) // GROUP_ROWS * GROUP_ROWS
    return rows * a.row_words


@register_jitable
def _panels(a: Any, i: int, n: int, row: int, p: int, group: int, slot: int, fresh: bool) -> None:
    """Compute `group` panels of examples i to i + n. `row` is the number of the first among the part's examples.

    `fresh`: the panels of W are split and packed; otherwise they are as another chunk of examples left them.
    """
    sums = a.scratch + a.at_sums
    size = a.inputs * PANEL
    weight = a.scratch + a.at_weight + slot * a.primal * a.panel_words * 4
    moved_parts = a.primal if a.shares else a.tangent
    moved = a.scratch + a.at_tangent_weight + slot * moved_parts * a.panel_words * 4
    given = a.weight + p * size * 4
    pack = a.pack_primal if fresh else 0
    if a.stacked:
        rows = n * (1 + a.count)
        x, part = a.scratch + a.at_x, _part(a, n, True)
        packed = (weight, a.keeps, pack, given, size)
        _dots(a, a.weight_tiles, a.primal, a.primal_block, x, part, packed, rows, p, group, 0)
        for t in range(a.count + 1):
            _finish(a, sums + t * n * group * PANEL * 4, t, i, row, n, p, group)
        return
    if a.primal > 0:
        x, part = a.scratch + a.at_x, _part(a, n, True)
        packed = (weight, a.keeps, pack, given, size)
        _dots(a, a.weight_tiles, a.primal, a.primal_block, x, part, packed, n, p, group, 0)
    else:
        _products(a, a.weight_tiles, 0, 0, i, n, p, group)
    _finish(a, sums, 0, i, row, n, p, group)
    pack = a.pack_tangent if fresh and not a.same and not a.shares else 0
    for t in range(1, a.count + 1):
        entries = a.kind >= RADEMACHER
        if not a.has_tangent and not entries:
            _finish(a, 0 if a.kind == RANK1 else sums, t, i, row, n, p, group)
            continue
        v = 0
        if entries:
            v = _draw(a, t - 1, p, group)
        if a.tangent > 0:
            x, part, onto = a.scratch + a.at_moved, _part(a, n, False), 0
            if a.has_tangent:
                block = x + t * _block_rows(a, n) * a.row_words * 4
                packed = (moved, 1, pack, given, size)
                _dots(a, a.tangent_tiles, moved_parts, a.tangent_block, block, part, packed, n, p, group, 0)
                pack, onto = 0, 1
            if entries:
                packed = (a.scratch + a.at_entries, 0, a.pack_tangent, v, a.v_row // 4)
                _dots(a, a.tangent_tiles, a.tangent, a.tangent_block, x, part, packed, n, p, group, onto)
        else:
            _products(a, a.tangent_tiles, t, v, i, n, p, group)
        _finish(a, sums, t, i, row, n, p, group)


@register_jitable
def _draw(a: Any, t: int, p: int, group: int) -> int:
    """Return the address of `group` panels of V_t as float32, from panel p on."""
    if a.kind == EXPLICIT:
        return a.v + (t * a.panels + p) * a.v_row
    numbers = a.scratch + a.at_numbers
    for panel in range(group):
        out = numbers + panel * a.v_row
        if a.kind == RADEMACHER:
            signs = a.scratch + a.at_signs
            product.draw_panel(a, t, p + panel, 0, a.inputs, signs)
            call(a.add, (_ONE, a.inputs, signs, out, 0))
        else:
            product.draw_panel(a, t, p + panel, 0, a.inputs, out)
    return numbers


@register_jitable
def _kind(a: Any, p: int, group: int) -> int:
    if group > 1 or a.group == 1:
        return GROUP if a.group > 1 else (LAST if p == a.panels - 1 else SINGLE)
    return LAST if p == a.panels - 1 else SINGLE


@register_jitable
def _dots(
    a: Any,
    tiles: int,
    parts: int,
    k_block: int,
    x: int,
    part: int,
    packed: tuple[int, int, int, int, int],
    rows: int,
    p: int,
    group: int,
    onto: int,
) -> None:
    """Multiply split rows with packed panels, into the sums. Each block of K is multiplied with all rows.

    `packed` is ``(w, keeps, pack, panels, size)``: the address of the packed panels, whether there is room for all
    blocks of K in place of one, and, if `pack` is not zero, the kernel that packs each block before it is multiplied,
    the address of the panels of float32, and the numbers from one panel to the next.
    """
    w, keeps, pack, panels, size = packed
    addresses = carray(pointer(tiles, np.int64), TILE_KINDS * (a.dot_tallest + 1))
    configurations = carray(pointer(a.configurations, np.int64), a.dot_tallest + 1)
    kind, count, configured = _kind(a, p, group), tile_count(rows, a.dot_tallest), 0
    # In groups of rows, words of a row that follow each other lie GROUP_ROWS apart, by the piece.
    spread = GROUP_ROWS if a.grouped else 1
    w_part = a.panel_words if keeps else k_block * PANEL
    for k in range(0, a.row_words, k_block):
        length = min(k_block, a.row_words - k)
        block = w + k * keeps * PANEL * 4
        if pack != 0:
            for q in range(group):
                numbers = panels + (q * size + 2 * k * PANEL) * 4
                out = block + q * parts * w_part * 4
                call(pack, (min(2 * length, a.inputs - 2 * k), numbers, out, w_part))
        going_on = onto if k == 0 else 1
        row = 0
        for tile in range(count):
            # Tiles begin where groups do.
            height = min(a.dot_tallest, rows - row) if a.grouped else tile_rows(rows, count, tile)
            if a.grouped and height != configured:
                call(configurations[height], (0,))
                configured = height
            operand = (1, a.offsets, length, x + (row * a.row_words + k * spread) * 4, part)
            panel = (block, w_part, parts * w_part)
            out = a.scratch + a.at_sums + row * group * PANEL * 4
            call(
                addresses[TILE_KINDS * height + kind],
                (*operand, a.row_words * spread, *panel, out, going_on),
            )
            row += height


@register_jitable
def _products(a: Any, tiles: int, t: int, v: int, i: int, n: int, p: int, group: int) -> None:
    """Multiply examples i to i + n of block t with W, and the primal with V, in float32, into the sums."""
    addresses = carray(pointer(tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    kind, count = _kind(a, p, group), tile_count(n, a.tallest)
    size = a.inputs * PANEL
    row = 0
    for tile in range(count):
        height = tile_rows(n, count, tile)
        c = a.x + (i + row) * a.x_image * 4
        x = c + t * a.x_block * 4 * a.has_tangent
        operands = (x, c, a.x_image, a.weight + p * size * 4, size, v, a.v_row // 4)
        out = a.scratch + a.at_sums + row * group * PANEL * 4
        call(addresses[TILE_KINDS * height + kind], (1, a.offsets, a.inputs, *operands, out, 0))
        row += height


@register_jitable
def _finish(a: Any, z: int, t: int, i: int, row: int, n: int, p: int, group: int) -> None:
    """Apply the epilogue to n examples from example i on: of the primal (t = 0), or of tangent t."""
    columns = group * PANEL
    slopes = a.scratch + a.at_slopes
    dotted = dots.at(a, t - 1, row) if a.kind == RANK1 and t > 0 else 0
    y = a.y + (t * a.y_block + i * a.y_image + p * PANEL) * 4
    product.finish(a, t, p, n, columns, z, slopes, dotted, y, a.y_image)
