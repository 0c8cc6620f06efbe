"""The gradient of a convolution's weights by Winograd's filtering F(2x2, 3x3), where the forward pass uses it too.

    Y = Aᵀ [(G W Gᵀ) ⊙ (Bᵀ X B)] A        so that        dW = Gᵀ [Σ (A dY Aᵀ) ⊙ (Bᵀ X B)] G

The sum runs over tiles of 2x2 pixels, and over examples. In each of the 16 places of a tile it is a matrix product,
channels by tiles by outputs. It takes 16 multiply-adds where the direct sum takes 36.

With G = D G' and D = diag(1, ½, ½, 1), D is applied together with A. All matrices then have few different entries.

Source: A. Lavin, S. Gray, arXiv 1509.09308, section 4.1; this is the adjoint of its equation 8.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer, prefetch
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import CACHE_LINE, address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import heights, parts_for, split, tile_count, tile_rows
from fgnumba.kernels.ops.conv2d.filtering import INPUT, PLACES, TAPS, transform
from fgnumba.kernels.shared.product.register_tiles import SINGLE, TILE_KINDS, tile_table

COTANGENT = ((1, 0), (0.5, 0.5), (0.5, -0.5), (0, -1))
"""D A"""
BACK = ((1, 1, 1, 0), (0, 1, -1, 0), (0, 1, 1, 1))
"""G'ᵀ"""

MIDDLE = 5
"""Index of place (1, 1) among the 16 places of a transformed tile."""

CHANNELS = 16
"""Channels of x in the smallest piece of work."""

CACHED_TILES = 512 * 1024
"""Bytes of transformed tiles of x and dz that the second-level cache holds."""

_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("dz"),
    *("batch", "down", "across", "bands", "channels", "outputs", "panels", "height", "width", "origin"),
    *("transform_input", "transform_cotangent", "transform_back", "offsets", "tiles", "tallest"),
    *("out", "bias", "onto", "at_x", "at_dz", "at_sums", "at_bias"),
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
    """Bind dW, packed like W, and db.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    batch : int
        Number of examples B.
    x : Images
        (H, W, C) images with zeros in a border of at least ``conv2d.filtering.needed_border``; C is a multiple of 16.
    dz : Images
        (H', W', N) images, with a border of zeros below or to the right if H' or W' is odd.
    geometry : Geometry
        Sizes of the convolution.
    out : array, (panels, K, PANEL) float32
        Written: dW.
    bias : array, (panels * PANEL,) float32, or None
        Written: db.
    onto : bool
        Whether the gradients are added to what the arrays hold.
    multiply_adds : int
        Number of multiply-adds of the direct sum.

    Notes
    -----
    Cost: 16 multiply-adds for each tile of 2x2 pixels, channel and output; reads x once, and dz once for each piece of
    the channels.
    """
    height, width, outputs = dz.shape
    channels, panels = x.shape[2], out.shape[0]
    down, across = -(-height // 2), -(-width // 2)
    parts = parts_for(multiply_adds, channels // CHANNELS, threads)
    pieces = {hi - lo for lo, hi in (_piece(channels, parts, part) for part in range(parts))}
    most = max(pieces)
    bands = max(1, min(down, CACHED_TILES // (PLACES * across * (most + panels * PANEL) * 4)))
    tiles = tile_table(isa, set().union(*(heights(n, isa.max_rows) for n in pieces)), 1, True, None)
    # One row of offsets for each number of channels that a part may have.
    offsets = {n: np.arange(bands * across, dtype=np.int64) * n for n in sorted(pieces)}
    table = np.zeros(channels + 1, np.int64)
    for n, values in offsets.items():
        table[n] = address(values)
    places, end = lay_out(
        [
            ("at_x", PLACES * max(bands * across, PANEL) * most * 4),
            ("at_dz", PLACES * bands * across * panels * PANEL * 4),
            ("at_sums", PLACES * panels * most * PANEL * 4),
            ("at_bias", PANEL * 4),
        ]
    )
    values, memory = operands(x=x, dz=dz)
    fields = {
        **values,
        "batch": batch,
        "down": down,
        "across": across,
        "bands": bands,
        "channels": channels,
        "outputs": outputs,
        "panels": panels,
        "height": height,
        "width": width,
        "origin": -(geometry.padding.top * x.row + geometry.padding.left * x.pixel),
        "transform_input": transform(isa, "input", INPUT),
        "transform_cotangent": transform(isa, "cotangent", COTANGENT),
        "transform_back": transform(isa, "back", BACK),
        "offsets": address(table),
        "tiles": address(tiles),
        "tallest": isa.max_rows,
        "out": address(out),
        "bias": address(bias),
        "onto": onto,
        **places,
    }
    memory["keeps"] = (memory["keeps"], out, bias, tiles, offsets, table)
    return Operation(
        "weight-gradient",
        kernel("winograd-weight-gradient", _gradient, 3),
        filled(_ARGUMENTS, fields),
        parts,
        scratch_bytes=end,
        multiply_adds=multiply_adds,
        executed=PLACES / (4 * TAPS),
        **memory,
    )


@register_jitable
def _piece(channels: int, parts: int, part: int) -> tuple[int, int]:
    """Return the first and last (exclusive) channel of a part."""
    first, last = split(channels // CHANNELS, parts, part)
    return first * CHANNELS, last * CHANNELS


def _gradient(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
    first, last = _piece(a.channels, parts, part)
    size = last - first
    begun = np.int64(0)
    if part == 0 and a.bias and not a.onto:
        bias = carray(pointer(a.bias, np.float32), a.outputs)
        for n in range(a.outputs):
            bias[n] = np.float32(0)
    for i in range(a.batch):
        for top in range(0, a.down, a.bands):
            bands = min(a.bands, a.down - top)
            for band in range(bands):
                _transform(a, i, top + band, band, first, size)
            # While this block is multiplied, the next one is loaded from memory.
            if top + bands < a.down:
                _expect(a, i, top + bands, min(a.bands, a.down - top - bands))
            elif i + 1 < a.batch:
                _expect(a, i + 1, 0, min(a.bands, a.down))
            _products(a, bands * a.across, size, begun)
            # Row by row, because threads decide how many rows a block has.
            for band in range(bands if part == 0 and a.bias else 0):
                _add_up(a, band)
            begun = np.int64(1)
    _finish(a, first, size)


@register_jitable
def _transform(a: Any, i: int, row: int, band: int, first: int, size: int) -> None:
    """Transform one row of tiles of x and of dz."""
    tiles = a.bands * a.across
    x = a.x + (i * a.x_image + a.origin + 2 * row * a.x_row + first) * 4
    plane = tiles * size
    out = a.scratch + a.at_x + band * a.across * size * 4
    call(
        a.transform_input,
        (a.across, 2 * a.x_pixel, size, size, x, a.x_row, a.x_pixel, out, 4 * plane, plane),
    )
    plane = a.panels * tiles * PANEL
    for q in range(a.panels):
        dz = a.dz + (i * a.dz_image + 2 * row * a.dz_row + q * PANEL) * 4
        out = a.scratch + a.at_dz + (q * tiles + band * a.across) * PANEL * 4
        call(
            a.transform_cotangent,
            (a.across, 2 * a.dz_pixel, PANEL, PANEL, dz, a.dz_row, a.dz_pixel, out, 4 * plane, plane),
        )


@register_jitable
def _expect(a: Any, i: int, top: int, bands: int) -> None:
    """Prefetch the rows of x and dz that some rows of tiles are the first to read."""
    for row in range(2 * top, 2 * (top + bands)):
        # Two of the rows of x that these tiles read are under the tiles before them too.
        x = a.x + (i * a.x_image + a.origin + (row + (2 if top > 0 else 0)) * a.x_row) * 4
        for line in range(0, (2 * a.across + 2) * a.x_pixel * 4, CACHE_LINE):
            prefetch(x + line)
        dz = a.dz + (i * a.dz_image + row * a.dz_row) * 4
        for line in range(0, 2 * a.across * a.dz_pixel * 4, CACHE_LINE):
            prefetch(dz + line)


@register_jitable
def _products(a: Any, count: int, size: int, onto: int) -> None:
    """Add the products of `count` tiles to the sums of all places."""
    tiles = a.bands * a.across
    addresses = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    offsets = carray(pointer(a.offsets, np.int64), a.channels + 1)[size]
    blocks = tile_count(size, a.tallest)
    for place in range(PLACES):
        x = a.scratch + a.at_x + place * tiles * size * 4
        for q in range(a.panels):
            dz = a.scratch + a.at_dz + (place * a.panels + q) * tiles * PANEL * 4
            out = a.scratch + a.at_sums + (place * a.panels + q) * size * PANEL * 4
            c = 0
            for block in range(blocks):
                rows = tile_rows(size, blocks, block)
                call(
                    addresses[TILE_KINDS * rows + SINGLE],
                    (count, offsets, 1, x + c * 4, 0, 1, dz, 0, 0, 0, out + c * PANEL * 4, onto),
                )
                c += rows


@register_jitable
def _finish(a: Any, first: int, size: int) -> None:
    """Transform the sums back, and write them to dW or add them to it."""
    row, plane = size * PANEL, a.panels * size * PANEL
    work = carray(pointer(a.scratch + a.at_x, np.float32), (TAPS, size, PANEL))
    for q in range(a.panels):
        sums = a.scratch + a.at_sums + q * row * 4
        call(
            a.transform_back,
            (1, 0, 0, row, sums, 4 * plane, plane, a.scratch + a.at_x, 3 * row, row),
        )
        columns = min(PANEL, a.outputs - q * PANEL)
        for tap in range(TAPS):
            for c in range(size):
                at = a.out + ((q * TAPS + tap) * a.channels + first + c) * PANEL * 4
                out = carray(pointer(at, np.float32), PANEL)
                if a.onto:
                    for n in range(columns):
                        out[n] += work[tap, c, n]
                else:
                    for n in range(columns):
                        out[n] = work[tap, c, n]


@register_jitable
def _add_up(a: Any, band: int) -> None:
    """Add dz of a row of tiles to db. A quarter of a tile's sum stands in place (1, 1) of the transformed tile."""
    tiles = a.bands * a.across
    four = np.float32(4)
    for q in range(a.panels):
        at = a.scratch + a.at_dz + ((MIDDLE * a.panels + q) * tiles + band * a.across) * PANEL * 4
        dz = carray(pointer(at, np.float32), (a.across, PANEL))
        bias = carray(pointer(a.bias + q * PANEL * 4, np.float32), PANEL)
        sums = carray(pointer(a.scratch + a.at_bias, np.float32), PANEL)
        for n in range(PANEL):
            sums[n] = np.float32(0)
        for tile in range(a.across):
            for n in range(PANEL):
                sums[n] += dz[tile, n]
        for n in range(min(PANEL, a.outputs - q * PANEL)):
            bias[n] += four * sums[n]
