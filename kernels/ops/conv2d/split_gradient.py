"""The gradient of a convolution's weights, ``weight_gradient``, whose factors are bfloat16.

Pixels are what the sum runs over, so that tiles read pixels side by side. Rows of x are transposed and split once for
each column of the kernel: a row of the factor is a channel under such a column, and its elements are output pixels,
line by line. The rows of the kernel read the same lines, further down. A panel of dz is split and packed once for a
block of lines. Lines are filled up with zeros, see :data:`fgnumba.kernels.shared.product.dot_tiles.DEPTH`.

Precision is that of tangents. Each number of dW is summed in the order of lines, however work is divided, so that
results do not depend on the number of threads.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.geometry import Geometry, clear
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, round_up
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import grid, heights, split, threads_for, tile_count, tile_rows
from fgnumba.kernels.ops.conv2d.panel_sums import panel_sums
from fgnumba.kernels.ops.example_panels.cpu import transpose
from fgnumba.kernels.shared.product import dot_tiles
from fgnumba.kernels.shared.product.register_tiles import SINGLE, TILE_KINDS

PIXELS = 1024
"""Output pixels of a block. Their panel of dz stays in the second-level cache."""

CACHED_LINES = 768 * 1024
"""Bytes of split lines of x that stay in the second-level cache."""

LEAST_LINES = 8
"""Lines of a block, at least, if an image has them: the lines that two blocks read are transposed twice."""

CHANNELS = 16
"""Channels of x in the smallest piece of work."""

_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("dz"),
    *(
        "batch",
        "height",
        "width",
        "stride",
        "step",
        "origin",
        "lines",
        "offsets",
        "kernel_rows",
        "kernel_columns",
    ),
    *("down", "across", "groups", "group_inputs", "group_outputs", "group_panels", "channels", "inputs"),
    *("column_parts", "channel_parts", "out", "bias", "onto", "add_up", "transpose", "beyond", "turned"),
    *("line_words", "row_words", "x_apart", "dz_apart", "split_rows", "pack", "tiles", "tallest"),
    *("at_x", "at_turned", "at_dz", "at_floats", "at_sums"),
)


def suits(isa: InstructionSet) -> bool:
    """Whether gradients are multiplied in a precision with parts.

    Where float32 may stand for it, it takes 0.8 of the time (a Xeon with AMX, 64 channels).
    """
    return bool(PRECISIONS[isa.tangent_precision].parts) and not dot_tiles.takes_float(isa)


def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    x: Images,
    dz: Images,
    geometry: Geometry,
    out: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32] | None,
    onto: bool,
    multiply_adds: int,
) -> Operation:
    """Bind dW and db. The parameters are those of ``weight_gradient.bind``; the layer is not channelwise.

    Notes
    -----
    Cost: H' W' K N multiply-adds an example for each term of the precision. A thread transposes its channels of x once,
    and the lines at the edge of a block twice, splits them once for each column of the kernel, and dz once.
    """
    (rows, columns), (down, across), (stride, step) = geometry.kernel_size, geometry.dilation, geometry.stride
    (height, width, outputs), channels, groups = dz.shape, x.shape[2], geometry.groups
    group_inputs, group_panels = channels // groups, -(-(outputs // groups) // PANEL)
    precision, parts = isa.tangent_precision, PRECISIONS[isa.tangent_precision].parts

    pieces = -(-channels // CHANNELS) if groups == 1 else 1
    panels = groups * group_panels
    column_parts, channel_parts = grid(panels, pieces, threads_for(multiply_adds, panels * pieces, threads))
    if groups == 1:
        sizes = {_piece(channels, channel_parts, part) for part in range(channel_parts)}
        most = max(last - first for first, last in sizes)
        run_rows = {columns * channels} if channel_parts == 1 else {last - first for first, last in sizes}
    else:
        most, run_rows = channels, {group_inputs}

    line = dot_tiles.padded(isa, width)
    room = CACHED_LINES // (2 * parts * columns * channels * line)
    fitting = (room - (rows - 1) * down - 1) // stride + 1
    lines = max(1, min(height, PIXELS // line, max(fitting, LEAST_LINES)))
    read = (lines - 1) * stride + (rows - 1) * down + 1
    row_words = round_up(read * line // 2, 16)
    # Rows a power of two apart would share a few places in the first-level cache.
    row_words += 16 * (row_words % 256 == 0)
    offsets = np.arange(lines, dtype=np.int64) * stride * line // 2
    turned = round_up(width + (columns - 1) * across if step == 1 else width, isa.lanes)
    # Pixels are transposed by whole vectors where there are images after them.
    beyond = -(-(turned * step * x.pixel) // max(1, x.image))
    x_apart, dz_apart = columns * most * row_words, lines * line // 2 * PANEL
    tiles = dot_tiles.dot_table(
        isa, set().union(*(heights(n, dot_tiles.tallest(isa)) for n in run_rows)), 1, precision
    )
    places, end = lay_out(
        {
            "at_x": 4 * parts * x_apart,
            "at_turned": 4 * most * turned,
            "at_dz": 4 * parts * dz_apart,
            "at_floats": 4 * lines * line * PANEL,
            "at_sums": 4 * PANEL,
        }.items()
    )
    values, memory = operands(x=x, dz=dz)
    fields = {
        **values,
        **places,
        "batch": batch,
        "height": height,
        "width": width,
        "stride": stride,
        "step": step,
        "origin": -(geometry.padding.top * x.row + geometry.padding.left * x.pixel),
        "lines": lines,
        "offsets": address(offsets),
        "kernel_rows": rows,
        "kernel_columns": columns,
        "down": down,
        "across": across,
        "groups": groups,
        "group_inputs": group_inputs,
        "group_outputs": outputs // groups,
        "group_panels": group_panels,
        "channels": channels,
        "inputs": out.shape[1],
        "column_parts": column_parts,
        "channel_parts": channel_parts,
        "out": address(out),
        "bias": address(bias),
        "onto": onto,
        "add_up": panel_sums(isa),
        "transpose": transpose(isa),
        "beyond": beyond,
        "turned": turned,
        "line_words": line // 2,
        "row_words": row_words,
        "x_apart": x_apart,
        "dz_apart": dz_apart,
        "split_rows": dot_tiles.split_kernel(isa, precision),
        "pack": dot_tiles.pack_kernel(isa, precision),
        "tiles": address(tiles),
        "tallest": dot_tiles.tallest(isa),
    }
    memory["keeps"] = (memory["keeps"], out, bias, tiles, offsets)
    return Operation(
        "weight-gradient",
        kernel("conv2d-split-gradient", _gradient, 3),
        filled(_ARGUMENTS, fields),
        column_parts * channel_parts,
        scratch_bytes=end,
        multiply_adds=multiply_adds,
        **memory,
    )


@register_jitable
def _piece(channels: int, parts: int, part: int) -> tuple[int, int]:
    """Return the first and last (exclusive) channel of a part."""
    first, last = split((channels + CHANNELS - 1) // CHANNELS, parts, part)
    return first * CHANNELS, min(channels, last * CHANNELS)


def _gradient(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    begin, end = split(a.groups * a.group_panels, a.column_parts, part % a.column_parts)
    first, last = _piece(a.channels, a.channel_parts, part // a.column_parts)
    if a.groups > 1:
        first = begin // a.group_panels * a.group_inputs
        last = ((end - 1) // a.group_panels + 1) * a.group_inputs
    if begin == end or first == last:
        return
    # There may be more parts than pieces of channels, of which some are then empty.
    sum_up = a.bias != 0 and (a.groups > 1 or first == 0)
    if not a.onto:
        for q in range(begin, end):
            for tap in range(a.kernel_rows * a.kernel_columns):
                row, rows = _rows_of_tap(a, tap, first, last)
                clear(a.out + (q * a.inputs + row) * PANEL * 4, rows * PANEL)
            if sum_up:
                clear(a.bias + q * PANEL * 4, PANEL)
    for i in range(a.batch):
        for top in range(0, a.height, a.lines):
            lines = min(a.lines, a.height - top)
            _turn(a, i, top, lines, first, last)
            for q in range(begin, end):
                _pack(a, i, top, lines, q, sum_up)
                _multiply(a, lines, q, first, last)


@register_jitable
def _rows_of_tap(a: Any, tap: int, first: int, last: int) -> tuple[int, int]:
    """Return the first row of dW's panels that belongs to a tap and these channels, and the number of such rows."""
    if a.groups > 1:
        return tap * a.group_inputs, a.group_inputs
    return tap * a.channels + first, last - first


@register_jitable
def _turn(a: Any, i: int, top: int, lines: int, first: int, last: int) -> None:
    """Transpose and split the lines of x that some output lines read, channels `first` to `last`."""
    size, turned = last - first, a.scratch + a.at_turned
    for y in range((lines - 1) * a.stride + (a.kernel_rows - 1) * a.down + 1):
        x = a.x + (i * a.x_image + a.origin + (top * a.stride + y) * a.x_row + first) * 4
        for column in range(a.kernel_columns):
            source = turned
            if a.step > 1:
                pixels = a.turned if i + a.beyond < a.batch else a.width
                at = x + column * a.across * a.x_pixel * 4
                call(a.transpose, (pixels, size, at, a.step * a.x_pixel, turned, a.turned))
            else:
                if column == 0:
                    pixels = (
                        a.turned if i + a.beyond < a.batch else a.width + (a.kernel_columns - 1) * a.across
                    )
                    call(a.transpose, (pixels, size, x, a.x_pixel, turned, a.turned))
                source = turned + column * a.across * 4
            out = a.scratch + a.at_x + (column * size * a.row_words + y * a.line_words) * 4
            call(a.split_rows, (size, a.width, source, a.turned, out, a.row_words, a.x_apart))


@register_jitable
def _pack(a: Any, i: int, top: int, lines: int, q: int, sum_up: bool) -> None:
    """Split and pack panel q of some lines of dz, and add them to the bias's gradient if `sum_up`."""
    zero, line = np.float32(0), 2 * a.line_words
    channel = q // a.group_panels * a.group_outputs + q % a.group_panels * PANEL
    columns = min(PANEL, a.group_outputs - q % a.group_panels * PANEL)
    floats = carray(pointer(a.scratch + a.at_floats, np.float32), (lines * line, PANEL))
    for row in range(lines):
        for column in range(a.width):
            at = a.dz + (i * a.dz_image + (top + row) * a.dz_row + column * a.dz_pixel + channel) * 4
            dz = carray(pointer(at, np.float32), PANEL)
            pixel = row * line + column
            if columns == PANEL:
                for lane in range(PANEL):
                    floats[pixel, lane] = dz[lane]
            else:
                for lane in range(columns):
                    floats[pixel, lane] = dz[lane]
                for lane in range(columns, PANEL):
                    floats[pixel, lane] = zero
        for pixel in range(row * line + a.width, (row + 1) * line):
            for lane in range(PANEL):
                floats[pixel, lane] = zero
    call(a.pack, (lines * line, a.scratch + a.at_floats, a.scratch + a.at_dz, a.dz_apart))
    if sum_up:
        bias = carray(pointer(a.bias + q * PANEL * 4, np.float32), PANEL)
        sums = carray(pointer(a.scratch + a.at_sums, np.float32), PANEL)
        call(a.add_up, (lines, a.width, a.scratch + a.at_floats, line * PANEL, PANEL, a.scratch + a.at_sums))
        for lane in range(columns):
            bias[lane] += sums[lane]


@register_jitable
def _multiply(a: Any, lines: int, q: int, first: int, last: int) -> None:
    """Add the products of split lines with a packed panel of dz to dW, a row of the kernel or a tap at a time."""
    size, taps = last - first, a.kernel_rows * a.kernel_columns
    together = a.groups == 1 and a.channel_parts == 1
    for run in range(a.kernel_rows if together else taps):
        tap = run * a.kernel_columns if together else run
        row, rows = _rows_of_tap(a, tap, first, last)
        channel = q // a.group_panels * a.group_inputs - first if a.groups > 1 else 0
        if together:
            rows *= a.kernel_columns
        at = (tap % a.kernel_columns * size + channel) * a.row_words
        at += tap // a.kernel_columns * a.down * a.line_words
        _run(a, lines, rows, a.scratch + a.at_x + at * 4, a.out + (q * a.inputs + row) * PANEL * 4)


@register_jitable
def _run(a: Any, lines: int, rows: int, x: int, out: int) -> None:
    """Add the product of rows of the split factor, from the address `x` on, with a packed panel of dz."""
    addresses = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    count = tile_count(rows, a.tallest)
    # Lines that follow each other are one run of elements.
    whole = a.stride == 1
    segments, words = (1, lines * a.line_words) if whole else (lines, a.line_words)
    row = 0
    for tile in range(count):
        height = tile_rows(rows, count, tile)
        operand = (segments, a.offsets, words, x + row * a.row_words * 4, a.x_apart, a.row_words)
        panel = (a.scratch + a.at_dz, a.dz_apart, 0)
        call(addresses[TILE_KINDS * height + SINGLE], (*operand, *panel, out + row * PANEL * 4, 1))
        row += height
