"""The gradient of a convolution's weights on the CPU, from its input and the error signals of its pre-activations.

    g[tap, c, n] = Σ x[pixel + tap, c] δ[pixel, n]

The rows of a register tile are neighbouring elements of x under the kernel, its columns are a panel of δ, and its sum
runs over the pixels. δ is called dz in the code. Of bfloat16, it is ``split_gradient`` that multiplies; the products of
channels by channels are always float32.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.geometry import Geometry, clear, is_channelwise
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import heights, parts_for, split, tile_count, tile_rows
from fgnumba.kernels.ops.conv2d import split_gradient
from fgnumba.kernels.ops.conv2d.panel_sums import panel_sums
from fgnumba.kernels.shared.product.register_tiles import SINGLE, TILE_KINDS, tile_table

PIXELS = 1024
"""Output pixels that are computed at a time. Their panel of dz stays in the second-level cache."""

_GRADIENT = record(
    *images.fields("x"),
    *images.fields("dz"),
    *("batch", "height", "width", "step_row", "origin", "rows_a_block", "pixel_offsets"),
    *("groups", "group_inputs", "group_outputs", "group_panels", "inputs"),
    *("runs", "run_starts", "run_rows", "run_step", "channelwise"),
    *("out", "bias", "onto", "tiles", "tallest", "add_up", "at_sums"),
)


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
    """Bind dW, packed like W, and db, the sum of dz over pixels and examples.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    x : Images
        (H, W, C) images with a border of at least the padding, which holds zeros.
    dz : Images
        (H', W', N) images.
    geometry : Geometry
        Sizes of the convolution.
    out : array, (panels, K, PANEL) float32
        Written: dW.
    bias : array, (panels * PANEL,) float32, or None
        Written: db.
    onto : bool
        Whether the gradients are added to what the arrays hold.
    multiply_adds : int
        Number of multiply-adds, for plans and benchmarks.

    Notes
    -----
    Cost: H' W' K N multiply-adds an example; reads x once for each panel of 32 outputs, and dz once.
    """
    (rows, columns), (down, across), (stride, step) = geometry.kernel_size, geometry.dilation, geometry.stride
    height, width, outputs = dz.shape
    channels = x.shape[2]
    channelwise = is_channelwise(geometry, channels, outputs)
    if split_gradient.suits(isa) and not channelwise:
        return split_gradient.bind(
            isa,
            threads,
            batch=batch,
            x=x,
            dz=dz,
            geometry=geometry,
            out=out,
            bias=bias,
            onto=onto,
            multiply_adds=multiply_adds,
        )
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
        "add_up": panel_sums(isa),
        "at_sums": rows_a_block * width * PANEL * 4,
    }
    memory["keeps"] = (memory["keeps"], out, bias, tiles, offsets, run_starts)
    return Operation(
        "weight-gradient",
        kernel("conv2d-weight-gradient", _gradient, 3),
        filled(_GRADIENT, fields),
        parts_for(multiply_adds, groups * group_panels * len(starts), threads),
        scratch_bytes=(rows_a_block * width + 1) * PANEL * 4,
        multiply_adds=multiply_adds,
        **memory,
    )


def _gradient(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _GRADIENT), 1)[0]
    panels = a.groups * a.group_panels
    # Neighbouring pieces of work belong to the same panel, so that few parts pack the same panel.
    first, last = split(panels * a.runs, parts, part)
    if not a.onto:
        for unit in range(first, last):
            q, run = unit // a.runs, unit % a.runs
            clear(a.out + (q * a.inputs + run * a.run_rows) * PANEL * 4, a.run_rows * PANEL)
            if run == 0 and a.bias:
                clear(a.bias + q * PANEL * 4, PANEL)
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
    """Return the first output channel of panel q."""
    return q // a.group_panels * a.group_outputs + q % a.group_panels * PANEL


@register_jitable
def _columns(a: Any, q: int) -> int:
    return min(PANEL, a.group_outputs - q % a.group_panels * PANEL)


@register_jitable
def _pack(a: Any, i: int, top: int, rows: int, q: int, sum_up: bool) -> None:
    """Copy panel q of some rows of dz to scratch memory, and add them to the bias's gradient if `sum_up`."""
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
        call(a.add_up, (rows, a.width, a.scratch, row_size, PANEL, a.scratch + a.at_sums))
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
