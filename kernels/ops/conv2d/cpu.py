"""Two-dimensional convolution on the CPU, channels last, primal and tangents in one pass over an image.

    y    = a(x * W + b)
    dy_t = a'(z) (dx_t * W + x * V_t + c_t)

It is an implicit matrix product: no matrix of patches exists. Neighbouring output pixels are the rows of a register
tile. The K elements of a row are the pixels under the kernel, read where they lie in the image: one run of KW C
elements for each row of the kernel, or one run of C for each tap if the kernel is dilated or the channels are in
groups. The image's border holds the zeros of the padding, which the operation that needs them writes.

For rank-1 directions V = u wᵀ over (KH KW C) x N, x * V = (x * u) w costs one product of K multiply-adds a pixel. If
every channel is a group of its own (depthwise), a tile multiplies vectors of channels instead of single elements, and
V = u wᵀ is written out, because a panel of it is small.

Source: arXiv 2202.08587, section 5.1 (the network of its experiments); rank-1 signs have E[v vᵀ] = I.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.precision import FLOAT32
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.geometry import (
    BORDER_FIELDS,
    Geometry,
    border_fields,
    clear_border,
    is_channelwise,
)
from fgnumba.kernels.layout.images import Border, Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import heights, tile_count, tile_rows
from fgnumba.kernels.ops.conv2d import (
    filtered_gradient,
    filtering,
    split_cpu,
    split_gradient,
    split_winograd,
    weight_gradient,
    winograd,
)
from fgnumba.kernels.ops.conv2d.rows import WALK_FIELDS, pixel_number, row_address, walk, write_dots
from fgnumba.kernels.rules.directions import EXPLICIT, NONE, RANK1
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.shared.product import dot_tiles, dots, product
from fgnumba.kernels.shared.product.register_tiles import GROUP, LAST, SINGLE, TILE_KINDS
from fgnumba.validation.launcher import launcher

CACHED_DIRECTIONS = 256 * 1024
"""Bytes of drawn panels that stay in the second-level cache. If there are more, one direction is drawn at a time."""

CACHED_SLOPES = 16 * 1024
"""Bytes of slopes that stay in the first-level cache from the primal to its tangents."""

ARGUMENTS = record(
    *product.FIELDS,
    *images.fields("x"),
    *images.fields("y"),
    *WALK_FIELDS,
    *("has_tangent", "channelwise", "width", "group_outputs", "group_panels"),
    *BORDER_FIELDS,
    *("slots", "block", "v_row", "at_panels"),
)


@launcher
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
    """Bind the convolution to its arrays, as a direct or as a Winograd convolution, whichever suits.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share work on all of the weights; images are divided into parts.
    batch, images_a_part : int
        Number of examples in all, and in a part.
    x : Images
        (H, W, C) images. Their border is at least the padding, and is filled with zeros. If they have no tangent (a
        symbolic zero), its product is skipped.
    y : Images
        (H', W', N) images, which must not overlap x.
    geometry : Geometry
        Sizes of the convolution.
    weights : Weights
        K = KH KW C / groups rows, in the order (row, column, channel). The columns of each group are packed in panels
        of their own, unless :func:`is_channelwise`.
    activation_name : str
        The activation a.

    Notes
    -----
    Cost: for rank-1 directions, 1 + T products of H' W' K N multiply-adds an image (1 if x has no tangent), and T of
    H' W' K; for others, 1 + 2 T (1 + T). An image is read once for each panel of 32 outputs, W once for each row.

    Three bfloat16 are as exact as a float32, so that float32 stands for them where it is as fast.
    """
    if _float_is_as_fast(isa, geometry, x, y, weights):
        isa = isa.multiplying(FLOAT32)
    splits = isa.splits
    if filtering.suits(isa, geometry, x.shape, y.shape, weights, x.has_tangent):
        filtered = split_winograd if splits else winograd
        return filtered.bind(
            isa,
            threads,
            batch=batch,
            images_a_part=images_a_part,
            x=x,
            y=y,
            geometry=geometry,
            weights=weights,
            activation_name=activation_name,
        )
    channels = x.shape[2]
    height, width, outputs = y.shape
    channelwise = is_channelwise(geometry, channels, outputs)
    if splits and not channelwise:
        return split_cpu.bind(
            isa,
            threads,
            batch=batch,
            images_a_part=images_a_part,
            x=x,
            y=y,
            geometry=geometry,
            weights=weights,
            activation_name=activation_name,
            border=needed_border(geometry, x.shape, outputs),
        )
    kind, count = weights.kind, weights.count
    has_tangent = x.has_tangent and count > 0
    groups = 1 if channelwise else geometry.groups
    group_outputs = outputs // groups
    group_panels = -(-group_outputs // PANEL)
    walked, starts = walk(geometry, x, y, groups, 1 if channelwise else channels // groups)
    tile_heights = heights(width, isa.max_rows)
    group = min(isa.panels(max(tile_heights)), 1 << (group_panels.bit_length() - 1))
    last = group_outputs - (group_panels - 1) * PANEL
    values, kept = product.fields(
        isa,
        weights,
        activation_name,
        has_tangent,
        "float" if channelwise and kind == RANK1 else weights.entries,
        tile_heights,
        group,
        last,
        channelwise,
    )
    stride = group * PANEL * 4
    slots, v_row = 0, weights.inputs * PANEL * 4
    if kind == RANK1 and channelwise:
        slots = count
    elif weights.entries and kind != EXPLICIT:
        slots, v_row = count, directions.draw_bytes(kind, weights.inputs)
    units = images_a_part * height
    block = max(1, min(units, CACHED_SLOPES // (width * stride)))
    if slots * group * v_row > CACHED_DIRECTIONS:
        slots, block = 1, units
    dot_values, dot_regions, kept_tiles = dots.fields(
        isa, NONE if channelwise else kind, count, weights.inputs, groups * units * width, tile_heights
    )
    regions = {**product.regions(weights, width * stride, block * width * stride, drawn=0), **dot_regions}
    offsets, end = lay_out([*regions.items(), ("at_panels", slots * group * v_row)])
    addresses, memory = operands(x=x, y=y)
    fields = {
        **values,
        **dot_values,
        **addresses,
        **walked,
        **images.part_fields(batch, images_a_part),
        "has_tangent": has_tangent,
        "channelwise": channelwise,
        "width": width,
        "group_outputs": group_outputs,
        "group_panels": group_panels,
        **border_fields(x, geometry.padding),
        "slots": slots,
        "block": block,
        "v_row": v_row,
        **{name: offset for name, offset in offsets.items() if name != "sums"},
    }
    return [
        Operation(
            name="conv2d",
            entry=_entry(),
            arguments=filled(ARGUMENTS, fields),
            scratch_bytes=end,
            multiply_adds=weights.products(has_tangent) * batch * height * width * weights.inputs * outputs,
            local=memory["local"],
            external=memory["external"],
            keeps=(memory["keeps"], kept, starts, kept_tiles),
        )
    ]


def _float_is_as_fast(
    isa: InstructionSet, geometry: Geometry, x: Images, y: Images, weights: product.Weights
) -> bool:
    """Whether float32 may stand for the precisions of `isa`, and is as fast.

    On a Xeon with AMX, a direct convolution of 64 channels in three parts takes as long as a filtered one in float32,
    and one of few channels, whose rows have to be copied, 1.7 times as long as in float32.
    """
    if not dot_tiles.takes_float(isa):
        return False
    copied = x.shape[2] // geometry.groups % dot_tiles.DEPTH[isa.dots] > 0
    of_float32 = isa.multiplying(FLOAT32)
    return copied or filtering.suits(of_float32, geometry, x.shape, y.shape, weights, x.has_tangent)


def gradient_border(geometry: Geometry, shape: tuple[int, int, int], outputs: int) -> Border:
    """Return the border of zeros around dz that the operation of :func:`bind_gradient` reads."""
    if not filtering.fits(geometry, shape, outputs):
        return Border()
    height, width = filtering.output_size(geometry, shape)
    return Border(0, height % 2, 0, width % 2)


@launcher
def bind_gradient(
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
    """Bind dW and db, see ``weight_gradient.bind``, or ``filtered_gradient.bind`` if Winograd's filtering suits.

    Direct sums of bfloat16 take as long on Zen 4 as filtered ones of float32, and are more exact than filtered ones.
    Those of three parts by AMX take longer.
    """
    fits = filtering.fits(geometry, x.shape, dz.shape[2])
    module = filtered_gradient if fits and not split_gradient.suits(isa) else weight_gradient
    return module.bind(
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


def needed_border(geometry: Geometry, shape: tuple[int, int, int], outputs: int) -> Border:
    """Return the border that the input, (H, W, C) images, must have: at least the padding."""
    if filtering.fits(geometry, shape, outputs):
        return filtering.needed_border(geometry, shape)
    return geometry.padding


@cache
def _entry() -> int:
    return kernel("conv2d", _conv2d, 3)


def _conv2d(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    n = min(a.images, a.batch - part * a.images)
    if a.clear:
        clear_border(a, part, n)
    if a.kind == RANK1 and not a.channelwise:
        write_dots(a, part, n)
    for t in range(a.count):
        product.draw_right_and_shift(a, t)
    p = 0
    while p < a.panels:
        left = a.group_panels - p % a.group_panels
        group = a.group if left >= a.group else 1
        _panels(a, part, n, p, group)
        p += group


@register_jitable
def _panels(a: Any, part: int, n: int, p: int, group: int) -> None:
    """Compute `group` panels of outputs, from panel p on, in blocks of rows: the primal, then each tangent."""
    units = n * a.height
    if a.slots == a.count:
        for t in range(a.slots):
            _draw(a, t, p, group, t)
    for first in range(0, units, a.block):
        last = min(units, first + a.block)
        for t in range(1 + a.count):
            if t > 0 and a.slots == 1 and a.count > 1:
                _draw(a, t - 1, p, group, 0)
            for unit in range(first, last):
                _tiles(a, part, unit, unit - first, t, p, group)


@register_jitable
def _draw(a: Any, t: int, p: int, group: int, slot: int) -> None:
    """Draw `group` panels of V_t, from panel p on."""
    for panel in range(group):
        out = a.scratch + a.at_panels + (slot * group + panel) * a.v_row
        if a.kind == RANK1:
            left = carray(pointer(dots.draw(a, t, product.draw_vector), np.float32), a.inputs)
            at = a.scratch + a.at_right + (t * a.panels + p + panel) * PANEL * 4
            right = carray(pointer(at, np.float32), PANEL)
            v = carray(pointer(out, np.float32), (a.inputs, PANEL))
            for k in range(a.inputs):
                for lane in range(PANEL):
                    v[k, lane] = left[k] * right[lane]
        else:
            product.draw_panel(a, t, p + panel, 0, a.inputs, out)


@register_jitable
def _tiles(a: Any, part: int, unit: int, at: int, t: int, p: int, group: int) -> None:
    """Compute a row of outputs of block t (0: the primal). `at` is the row's place among the slopes that are kept."""
    g, q = p // a.group_panels, p % a.group_panels
    columns = min(group * PANEL, a.group_outputs - q * PANEL)
    stride = group * PANEL
    i, row = unit // a.height, unit % a.height
    channel = g * a.group_outputs + q * PANEL
    y = a.y + (part * a.y_part + t * a.y_block + i * a.y_image + row * a.y_row + channel) * 4
    slopes = a.scratch + a.at_slopes + at * a.width * stride * 4
    rank1 = a.kind == RANK1 and not a.channelwise
    dotted = dots.at(a, t - 1, pixel_number(a, g, unit)) if rank1 else 0
    if t > 0 and rank1 and not a.has_tangent:
        product.finish(a, t, p, a.width, columns, 0, slopes, dotted, y, a.y_pixel)
        return
    x = row_address(a, part, unit) + (p * PANEL if a.channelwise else g * a.group_inputs) * 4
    tiles, v, v_stride = a.weight_tiles, 0, 0
    if t > 0:
        tiles = a.tangent_tiles
    if t > 0 and a.kind != NONE and not rank1:
        if a.kind == EXPLICIT:
            v, v_stride = a.v + ((t - 1) * a.panels + p) * a.inputs * PANEL * 4, a.inputs * PANEL
        else:
            slot = t - 1 if a.slots == a.count else 0
            v, v_stride = a.scratch + a.at_panels + slot * group * a.v_row, a.v_row // 4
    kind = GROUP
    if group == 1:
        kind = LAST if q == a.group_panels - 1 else SINGLE
    addresses = carray(pointer(tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    weight = a.weight + p * a.inputs * PANEL * 4
    operand = (a.step_pixel, weight, a.inputs * PANEL, v, v_stride)
    count = tile_count(a.width, a.tallest)
    pixel = 0
    for tile in range(count):
        size = tile_rows(a.width, count, tile)
        c = x + pixel * a.step_pixel * 4
        call(
            addresses[TILE_KINDS * size + kind],
            (
                a.segments,
                a.offsets,
                a.length,
                c + t * a.x_block * 4 * a.has_tangent,
                c,
                *operand,
                a.scratch + pixel * stride * 4,
                0,
            ),
        )
        pixel += size
    product.finish(a, t, p, a.width, columns, a.scratch, slopes, dotted, y, a.y_pixel)
