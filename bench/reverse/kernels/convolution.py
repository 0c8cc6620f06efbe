"""The reverse pass of convolutions, channels last.

    dz = dy a'(z)                       with zeros between its pixels where the kernel strides, and around them
    dx = dz * W'                        W' is W with its taps reversed, and inputs and outputs exchanged
    dW[tap, c, n] = Σ x[pixel + tap, c] dz[pixel, n]

dx is a convolution of stride 1, and goes through the forward pass's own kernels. Of dW, the rows of a register tile
are neighbouring elements of x under the kernel, its columns a panel of dz, and its sum runs over the pixels.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.bench.reverse.kernels.panels import transpose
from fgnumba.kernels import images
from fgnumba.kernels.activations.rules import RULES
from fgnumba.kernels.arguments import filled, record
from fgnumba.kernels.compile import kernel
from fgnumba.kernels.conv2d.geometry import Geometry, is_channelwise
from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.group_norm.cpu import VALUES, sums_entry
from fgnumba.kernels.images import Images, operands
from fgnumba.kernels.memory import address
from fgnumba.kernels.program import Operation
from fgnumba.kernels.tiles import SINGLE, TILE_KINDS, tile_table
from fgnumba.kernels.tiling import heights, parts_for, split, tile_count, tile_rows
from fgnumba.kernels.vector import PANEL, InstructionSet

PIXELS = 1024
"""Output pixels at a time: their panel of dz stays in the second-level cache."""

_SLOPE = record(
    *images.fields("x"),
    *images.fields("source"),
    *images.fields("y"),
    *("batch", "images", "height", "width", "channels", "down", "across"),
    *("fill", "fill_height", "fill_row", "top", "left"),
)


def bind_slope(
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    source: Images | None,
    y: Images,
    activation_name: str = "identity",
    stride: tuple[int, int] = (1, 1),
) -> Operation:
    """Bind y = x a'(source), pixels `stride` apart in y; between and around them, in y's border, come zeros.

    Parameters
    ----------
    x, source : (H, W, C) images; a source of None: the identity's slope, 1.
    y : ((H - 1) stride + 1, …, C) images; y may be x without a stride, and else must not overlap it.

    Cost: reads x and source once, writes y once, twice with a stride.
    """
    height, width, channels = x.shape
    border = y.border
    values, memory = operands(**({"x": x, "y": y} | ({"source": source} if source else {})))
    spread = stride != (1, 1)
    fields = {
        **values,
        **images.part_fields(batch, images_a_part),
        "height": height,
        "width": width,
        "channels": channels,
        "down": stride[0],
        "across": stride[1],
        "fill": spread or border != images.NO_BORDER,
        "fill_height": border.top + y.shape[0] + border.bottom,
        "fill_row": (border.left + y.shape[1] + border.right) * y.pixel,
        "top": border.top,
        "left": border.left,
    }
    name = activation_name if source else "identity"
    return Operation("slope", _slope_entry(name), filled(_SLOPE, fields), **memory)


@cache
def _slope_entry(activation_name: str) -> int:
    rule, identity = RULES[activation_name], activation_name == "identity"

    def slope(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _SLOPE), 1)[0]
        for i in range(min(a.images, a.batch - part * a.images)):
            y_image = a.y + (part * a.y_part + i * a.y_image) * 4
            if a.fill:
                corner = y_image - (a.top * a.y_row + a.left * a.y_pixel) * 4
                if a.down == 1 and a.across == 1:
                    _surround(a, corner)
                else:
                    for row in range(a.fill_height):
                        _zero(corner + row * a.y_row * 4, a.fill_row)
            for row in range(a.height):
                x_at = a.x + (part * a.x_part + i * a.x_image + row * a.x_row) * 4
                s_at = a.source + (part * a.source_part + i * a.source_image + row * a.source_row) * 4
                y_at = y_image + row * a.down * a.y_row * 4
                joined = (
                    a.x_pixel == a.channels
                    and a.y_pixel * a.across == a.channels
                    and (identity or a.source_pixel == a.channels)
                )
                runs, length = (1, a.width * a.channels) if joined else (a.width, a.channels)
                for j in range(runs):
                    x = carray(pointer(x_at + j * a.x_pixel * 4, np.float32), length)
                    y = carray(pointer(y_at + j * a.across * a.y_pixel * 4, np.float32), length)
                    if identity:
                        for c in range(length):
                            y[c] = x[c]
                    else:
                        s = carray(pointer(s_at + j * a.source_pixel * 4, np.float32), length)
                        for c in range(length):
                            y[c] = x[c] * rule(s[c])[1]

    return kernel(f"reverse-slope-{activation_name}", slope, 3)


@register_jitable
def _surround(a: Any, corner: int) -> None:
    """Fill the border of an image with zeros, from its corner on."""
    inside = a.width * a.y_pixel
    for row in range(a.fill_height):
        at = corner + row * a.y_row * 4
        if a.top <= row < a.top + a.height:
            _zero(at, a.left * a.y_pixel)
            _zero(at + (a.left * a.y_pixel + inside) * 4, a.fill_row - a.left * a.y_pixel - inside)
        else:
            _zero(at, a.fill_row)


@register_jitable
def _zero(at: int, n: int) -> None:
    values = carray(pointer(at, np.float32), n)
    for i in range(n):
        values[i] = np.float32(0)


_REVERSED = record(
    *("weight", "out", "taps", "groups", "channels", "outputs", "panels", "out_panels", "channelwise"),
    "transpose",
)


def bind_reversed(
    isa: InstructionSet,
    weight: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    *,
    taps: int,
    groups: int,
    channels: int,
    outputs: int,
    channelwise: bool,
) -> Operation:
    """Bind W' of a group's (taps, C, N): W'[tap, n, c] = W[taps - 1 - tap, c, n], both packed.

    Parameters
    ----------
    channels, outputs : of one group.
    channelwise : every channel is a group, packed side by side: only the taps change places.

    Cost: reads and writes the weights once.
    """
    fields = {
        "weight": address(weight),
        "out": address(out),
        "taps": taps,
        "groups": groups,
        "channels": channels,
        "outputs": outputs,
        "panels": weight.shape[0] // groups,
        "out_panels": out.shape[0] // groups,
        "channelwise": channelwise,
        "transpose": transpose(isa),
    }
    entry = kernel("reversed-weights", _reversed, 3)
    return Operation("reverse-taps", entry, filled(_REVERSED, fields), keeps=(weight, out))


def _reversed(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _REVERSED), 1)[0]
    if a.channelwise:
        for panel in range(a.panels):
            for tap in range(a.taps):
                source = carray(pointer(a.weight + (panel * a.taps + tap) * PANEL * 4, np.float32), PANEL)
                at = a.out + (panel * a.taps + a.taps - 1 - tap) * PANEL * 4
                target = carray(pointer(at, np.float32), PANEL)
                for lane in range(PANEL):
                    target[lane] = source[lane]
        return
    for g in range(a.groups):
        for tap in range(a.taps):
            for p in range(a.panels):
                outputs = min(PANEL, a.outputs - p * PANEL)
                row = ((g * a.panels + p) * a.taps + tap) * a.channels
                for q in range(a.out_panels):
                    channels = min(PANEL, a.channels - q * PANEL)
                    source = a.weight + (row + q * PANEL) * PANEL * 4
                    reverse = a.taps - 1 - tap
                    out_row = ((g * a.out_panels + q) * a.taps + reverse) * a.outputs + p * PANEL
                    target = a.out + out_row * PANEL * 4
                    call(a.transpose, (channels, outputs, source, PANEL, target, PANEL))


_GRADIENT = record(
    *images.fields("x"),
    *images.fields("dz"),
    *("batch", "height", "width", "step_row", "origin", "rows_a_block", "pixel_offsets"),
    *("groups", "group_inputs", "group_outputs", "group_panels", "inputs"),
    *("runs", "run_starts", "run_rows", "run_step", "channelwise"),
    *("out", "bias", "onto", "tiles", "tallest", "add_up", "at_sums"),
)


def bind_weight_gradient(
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
    """Bind dW, packed like W, and db, the sum of dz over pixels and examples.

    Parameters
    ----------
    x : (H, W, C) images with a border of at least the padding, which holds zeros.
    dz : (H', W', N) images.
    out, bias : written, or added to where `onto`.

    Cost: H' W' K N multiply-adds an example; reads x once a panel of 32 outputs, dz once.
    """
    (rows, columns), (down, across), (stride, step) = geometry.kernel_size, geometry.dilation, geometry.stride
    height, width, outputs = dz.shape
    channels = x.shape[2]
    channelwise = is_channelwise(geometry, channels, outputs)
    groups = 1 if channelwise else geometry.groups
    group_inputs = 1 if channelwise else channels // groups
    taps = [(i * down * x.row, j * across * x.pixel) for i in range(rows) for j in range(columns)]
    if channelwise:
        starts, run_rows, run_step = [i * down * x.row for i in range(rows)], columns, across * x.pixel
    elif across == 1 and groups == 1 and x.pixel == channels:
        starts, run_rows, run_step = [i * down * x.row for i in range(rows)], columns * channels, 1
    else:
        starts, run_rows, run_step = [i + j for i, j in taps], group_inputs, 1
    rows_a_block = max(1, min(height, PIXELS // width))
    offsets = np.add.outer(
        np.arange(rows_a_block, dtype=np.int64) * stride * x.row,
        np.arange(width, dtype=np.int64) * step * x.pixel,
    ).ravel()
    tiles = tile_table(isa, heights(run_rows, isa.max_rows), 1, True, None, channelwise=channelwise)
    run_starts = np.array(starts, np.int64)
    values, memory = operands(x=x, dz=dz)
    group_panels = -(-(outputs // groups) // PANEL)
    fields = {
        **values,
        "batch": batch,
        "height": height,
        "width": width,
        "step_row": stride * x.row,
        "origin": -(geometry.padding.top * x.row + geometry.padding.left * x.pixel),
        "rows_a_block": rows_a_block,
        "pixel_offsets": address(offsets),
        "groups": groups,
        "group_inputs": group_inputs,
        "group_outputs": outputs // groups,
        "group_panels": group_panels,
        "inputs": out.shape[1],
        "runs": len(starts),
        "run_starts": address(run_starts),
        "run_rows": run_rows,
        "run_step": run_step,
        "channelwise": channelwise,
        "out": address(out),
        "bias": address(bias),
        "onto": onto,
        "tiles": address(tiles),
        "tallest": isa.max_rows,
        "add_up": sums_entry(isa),
        "at_sums": rows_a_block * width * PANEL * 4,
    }
    memory["keeps"] = (memory["keeps"], out, bias, tiles, offsets, run_starts)
    return Operation(
        "weight-gradient",
        kernel("reverse-conv2d", _gradient, 3),
        filled(_GRADIENT, fields),
        parts_for(multiply_adds, groups * group_panels * len(starts), threads),
        scratch_bytes=(rows_a_block * width + 1) * PANEL * 4,
        multiply_adds=multiply_adds,
        **memory,
    )


def _gradient(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _GRADIENT), 1)[0]
    panels = a.groups * a.group_panels
    # Neighbouring units are of one panel, so that few parts pack the same one.
    first, last = split(panels * a.runs, parts, part)
    if not a.onto:
        for unit in range(first, last):
            q, run = unit // a.runs, unit % a.runs
            _zero(a.out + (q * a.inputs + run * a.run_rows) * PANEL * 4, a.run_rows * PANEL)
            if run == 0 and a.bias:
                _zero(a.bias + q * PANEL * 4, PANEL)
    for i in range(a.batch):
        for top in range(0, a.height, a.rows_a_block):
            rows = min(a.rows_a_block, a.height - top)
            unit = first
            while unit < last:
                q, run = unit // a.runs, unit % a.runs
                until = min(last, (q + 1) * a.runs)
                _pack(a, i, top, rows, q, run == 0)
                for r in range(run, until - q * a.runs):
                    _products(a, i, top, rows, q, r)
                unit = until


@register_jitable
def _channel(a: Any, q: int) -> int:
    """Return the first output of panel q."""
    return q // a.group_panels * a.group_outputs + q % a.group_panels * PANEL


@register_jitable
def _columns(a: Any, q: int) -> int:
    return min(PANEL, a.group_outputs - q % a.group_panels * PANEL)


@register_jitable
def _pack(a: Any, i: int, top: int, rows: int, q: int, sum_up: bool) -> None:
    """Copy panel q of some rows of dz to scratch memory, and add them up for the bias."""
    columns, zero = _columns(a, q), np.float32(0)
    packed = carray(pointer(a.scratch, np.float32), (rows * a.width, PANEL))
    for row in range(rows):
        for column in range(a.width):
            at = a.dz + (i * a.dz_image + (top + row) * a.dz_row + column * a.dz_pixel + _channel(a, q)) * 4
            dz = carray(pointer(at, np.float32), PANEL)
            pixel = row * a.width + column
            if columns == PANEL:
                for lane in range(PANEL):
                    packed[pixel, lane] = dz[lane]
            else:
                for lane in range(columns):
                    packed[pixel, lane] = dz[lane]
                for lane in range(columns, PANEL):
                    packed[pixel, lane] = zero
    if sum_up and a.bias:
        bias = carray(pointer(a.bias + q * PANEL * 4, np.float32), PANEL)
        sums = carray(pointer(a.scratch + a.at_sums, np.float32), PANEL)
        row_size = a.width * PANEL
        call(
            a.add_up, (VALUES, rows, a.width, PANEL, a.scratch, 0, 0, row_size, PANEL, a.scratch + a.at_sums)
        )
        for lane in range(columns):
            bias[lane] += sums[lane]


@register_jitable
def _products(a: Any, i: int, top: int, rows: int, q: int, run: int) -> None:
    starts = carray(pointer(a.run_starts, np.int64), a.runs)
    addresses = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    channel = q * PANEL if a.channelwise else q // a.group_panels * a.group_inputs
    x = a.x + (i * a.x_image + a.origin + top * a.step_row + starts[run] + channel) * 4
    out = a.out + (q * a.inputs + run * a.run_rows) * PANEL * 4
    count = tile_count(a.run_rows, a.tallest)
    row = 0
    for tile in range(count):
        height = tile_rows(a.run_rows, count, tile)
        call(
            addresses[TILE_KINDS * height + SINGLE],
            (
                *(rows * a.width, a.pixel_offsets, 1, x + row * a.run_step * 4, 0, a.run_step),
                *(a.scratch, 0, 0, 0, out + row * PANEL * 4, 1),
            ),
        )
        row += height
