"""A dense layer of many rows that keeps its slopes: y = a(x W + b) by rows, and a'(x W + b) in panels of features.

The reverse pass then only multiplies. Pre-activations stay in the first-level cache, and each activation is computed
once for both passes. The product has the precision of a primal's.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer, prefetch_to_write
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import CACHE_LINE, PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
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
)
from fgnumba.kernels.rules.activations.cpu import activation
from fgnumba.kernels.shared.product import split_factors
from fgnumba.kernels.shared.product.register_tiles import LAST, ONE_SEGMENT, SINGLE, TILE_KINDS, tile_table
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(
    *split_factors.FIELDS,
    *images.fields("x"),
    *images.fields("y"),
    *("weight", "bias", "slopes", "padded"),
    *(
        "rows",
        "inputs",
        "panels",
        "last",
        "offsets",
        "tiles",
        "tallest",
        "activate",
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
    x: Images,
    y: Images,
    outputs: int,
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    slopes: npt.NDArray[np.float32],
    activation_name: str,
) -> Operation:
    """Bind the layer to its arrays.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    rows : int
        Number of rows.
    x : Images
        Images of one pixel with K channels.
    y : Images
        Written: images of one pixel, with room for whole panels.
    outputs : int
        N.
    weight : array, (Q, K, PANEL) float32
        The packed weight W.
    bias : array, (at least N,) float32
        The bias b.
    slopes : array, (Q, at least `rows`, PANEL) float32
        Written: the slopes.
    activation_name : str
        The activation a.

    Notes
    -----
    Cost: K N multiply-adds for each row; reads W once, and x once for each panel of W. Of bfloat16, x and W are read
    and split once.
    """
    panels, inputs, _ = weight.shape
    products = rows * inputs * panels * PANEL
    splits, limit = bool(PRECISIONS[isa.precision].parts), panels * -(-rows // isa.max_rows)
    column_parts, row_parts = grid(
        panels, rows, (threads_for if splits else parts_for)(products, limit, threads)
    )
    last = outputs - (panels - 1) * PANEL
    regions, more = {"at_sums": isa.max_rows * PANEL * 4}, {}
    ranges = range_sizes(rows, row_parts)
    if splits:
        across = -(-panels // column_parts)
        plan = split_factors.plan(
            isa, isa.precision, rows=ranges, panels=across, terms=inputs, last_columns=last
        )
        tiles, more, regions = plan.table, plan.fields, {**plan.regions, "at_sums": plan.chunk * PANEL * 4}
    else:
        tile_heights = set().union(*(heights(count, isa.max_rows) for count in ranges))
        tiles = tile_table(isa, tile_heights, 1, True, None, last)
    places, end = lay_out(regions.items())
    values, memory = operands(x=x, y=y)
    memory["keeps"] = (memory["keeps"], weight, bias, slopes, tiles)
    fields = {
        **values,
        **more,
        **places,
        "weight": address(weight),
        "bias": address(bias),
        "slopes": address(slopes),
        "padded": slopes.shape[1],
        "rows": rows,
        "inputs": inputs,
        "panels": panels,
        "last": last,
        "offsets": address(ONE_SEGMENT),
        "tiles": address(tiles),
        "tallest": isa.max_rows,
        "activate": activation(activation_name, slope=True),
        "column_parts": column_parts,
        "row_parts": row_parts,
    }
    return Operation(
        "dense+slopes",
        kernel("reverse-activated-split", _activated_split, 3)
        if splits
        else kernel("reverse-activated", _activated, 3),
        filled(_ARGUMENTS, fields),
        column_parts * row_parts,
        scratch_bytes=end,
        multiply_adds=rows * inputs * outputs,
        **memory,
    )


def _activated(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    first_panel, last_panel = split(a.panels, a.column_parts, part % a.column_parts)
    first, last = split(a.rows, a.row_parts, part // a.column_parts)
    count = tile_count(last - first, a.tallest)
    addresses = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    for q in range(first_panel, last_panel):
        columns = a.last if q == a.panels - 1 else PANEL
        weight, bias = a.weight + q * a.inputs * PANEL * 4, a.bias + q * PANEL * 4
        row = first
        for tile in range(count):
            height = tile_rows(last - first, count, tile)
            entry = addresses[TILE_KINDS * height + (LAST if q == a.panels - 1 else SINGLE)]
            if tile + 1 < count:
                _expect(a, q, row + height, tile_rows(last - first, count, tile + 1))
            x = a.x + row * a.x_image * 4
            call(entry, (1, a.offsets, a.inputs, x, 0, a.x_image, weight, 0, 0, 0, a.scratch, 0))
            y = a.y + (row * a.y_image + q * PANEL) * 4
            slopes = a.slopes + (q * a.padded + row) * PANEL * 4
            call(a.activate, (height, columns, PANEL, a.scratch, bias, y, a.y_image, slopes))
            row += height


def _activated_split(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    first_panel, last_panel = split(a.panels, a.column_parts, part % a.column_parts)
    first, last = split(a.rows, a.row_parts, part // a.column_parts)
    z = a.scratch + a.at_sums
    for row in range(first, last, a.chunk):
        n = min(a.chunk, last - row)
        split_factors.split_rows(a, a.x + row * a.x_image * 4, a.x_image, n)
        for q in range(first_panel, last_panel):
            if row == first or a.slots == 0:
                split_factors.pack(a, a.weight + q * a.inputs * PANEL * 4, q - first_panel)
            split_factors.multiply(a, n, q - first_panel, q == a.panels - 1, z, 0)
            columns = a.last if q == a.panels - 1 else PANEL
            y = a.y + (row * a.y_image + q * PANEL) * 4
            slopes = a.slopes + (q * a.padded + row) * PANEL * 4
            call(a.activate, (n, columns, PANEL, z, a.bias + q * PANEL * 4, y, a.y_image, slopes))


@register_jitable
def _expect(a: Any, q: int, row: int, height: int) -> None:
    """Load the lines that the next tile writes into the cache, as the dense layer does."""
    for i in range(row, row + height):
        y = a.y + (i * a.y_image + q * PANEL) * 4
        slopes = a.slopes + (q * a.padded + i) * PANEL * 4
        for line in range(0, PANEL * 4, CACHE_LINE):
            prefetch_to_write(y + line)
            prefetch_to_write(slopes + line)
