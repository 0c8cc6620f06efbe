"""A chain of dense layers with derivatives in its input: the *collapsed* forward pass, on the CPU.

    u(x),   u_i = ∂u/∂x · v_i   (i = 1 … k),   u_L = Σ_i w_i ∂²u/∂x² [v_i, v_i]

Every point is carried through the layers as R = 2 + k rows: value, k first derivatives, and one second derivative,
which is summed over the directions before it meets a weight. A layer z = x W + b, y = a(z) maps them to

    z = x W + b,     z_i = x_i W,      z_L = x_L W
    y = a(z),        y_i = a'(z) z_i,  y_L = a'(z) z_L + a''(z) Σ_i w_i z_i²

so that all rows are rows of one product. Beside them there may be T tangents of all this along directions of the
parameters, (V_t, c_t) for a layer's weight and bias, of which each is R rows more: dz = dx W + x V_t + c_t and so on.

Points are independent. A part of the work is a few points, which go through all layers before the next few do, in
buffers that stay in a thread's second-level cache. For each panel of W, register tiles multiply all of the part's rows
into scratch memory, and the panel's rows are carried through the activation while they are in the first-level cache.
Meanwhile the next panel is loaded from memory. In the first layer the derivatives of x are the directions v_i, the same
for all points, so that their product is computed once for a part.

Source: R. Li et al., arXiv 2307.08214 (the forward Laplacian); F. Dangel et al., arXiv 2505.13644 (collapsed Taylor
mode).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.collapse import BEND, BEND_SLOPE, SLOPE, VALUE, collapse, collapse_tangent
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, leading
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import (
    PARTS_A_THREAD,
    heights,
    range_sizes,
    split,
    threads_for,
    tile_count,
    tile_rows,
)
from fgnumba.kernels.rules.activations.curvatures import curvature_of
from fgnumba.kernels.rules.activations.rules import rule_of
from fgnumba.kernels.shared.product.register_tiles import LAST, ONE_SEGMENT, SINGLE, TILE_KINDS, tile_table
from fgnumba.validation.launcher import launcher

CACHED_POINTS = 768 * 1024
"""The most bytes that the rows of a part's points take in one thread's buffers."""

JET_ROWS = 5
ROW = PANEL * 4
"""Bytes of a row of a panel."""


@dataclass(frozen=True)
class ChainLayer:
    """A dense layer of the chain.

    Parameters
    ----------
    weight : array, (panels, K, PANEL) float32
        The packed weight.
    bias : array, (panels * PANEL,) float32
        The packed bias, zeros if the layer has none.
    outputs : int
        The number of columns N without padding.
    activation : str
        The activation, as ``curvature_of`` takes it.
    v, v_bias : array, (T, panels, K, PANEL) and (T, panels * PANEL) float32, or None
        The tangents of weight and bias; None where T is 0.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    outputs: int
    activation: str
    v: npt.NDArray[np.float32] | None = None
    v_bias: npt.NDArray[np.float32] | None = None

    @property
    def inputs(self) -> int:
        """K, the number of rows of the weight."""
        return int(self.weight.shape[1])


_LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("weight", "bias", "v", "v_bias", "inputs", "panels", "ld", "activate"),
            *("tiles", "tangent_tiles"),
        )
    ]
)

_ARGUMENTS = record(
    *("layers", "depth", "batch", "count", "tangents", "x", "ld_x", "directions", "ld_directions", "weights"),
    *("y", "outputs", "tallest", "offsets", "at_read", "at_write", "at_products", "at_jet", "at_zeros"),
)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    x: npt.NDArray[np.float32],
    directions: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32],
    layers: Sequence[ChainLayer],
    y: npt.NDArray[np.float32],
) -> Operation:
    """Bind the pass to its arrays.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    x : array, (B, ld) float32
        The points, in the first K columns.
    directions : array, (k, ld) float32
        The directions v_i in the input, at least one.
    weights : array, (k,) float32
        The weights w_i of the second derivatives.
    layers : sequence of ChainLayer
        The layers, at least one.
    y : array, (1 + T, B, 2 + k, N) float32
        The result, which is written: the rows of every point, then their T tangents.

    Notes
    -----
    Cost: (2 + k) (1 + 2 T) B products of a row with each weight but the first, in which a point has one row and not
    2 + k. Each part reads the weights once.
    """
    count, batch, tangents = len(directions), len(x), len(y) - 1
    rows = 2 + count
    widest = max(leading(layer.outputs) for layer in layers)
    work = (
        sum(layer.inputs * layer.weight.shape[0] * PANEL for layer in layers)
        * batch
        * rows
        * (1 + 2 * tangents)
    )
    sharing = threads_for(work, batch, threads)
    points = max(1, CACHED_POINTS // ((1 + tangents) * rows * 4 * (2 * widest + PANEL)))
    points = min(points, -(-batch // (sharing * (PARTS_A_THREAD if sharing > 1 else 1))))
    parts = -(-batch // points)
    most = -(-batch // parts)
    sizes = set(range_sizes(batch, parts))
    table, kept = _table(isa, layers, tangents, count, sizes)
    products = max(most * rows, most + count)
    regions = {
        "at_read": (1 + tangents) * most * rows * widest * 4,
        "at_write": (1 + tangents) * most * rows * widest * 4,
        "at_products": (1 + tangents) * products * ROW,
        "at_jet": JET_ROWS * ROW,
        "at_zeros": ROW,
    }
    offsets, end = lay_out(regions.items())
    fields = {
        "layers": address(table),
        "depth": len(layers),
        "batch": batch,
        "count": count,
        "tangents": tangents,
        "x": address(x),
        "ld_x": x.shape[1],
        "directions": address(directions),
        "ld_directions": directions.shape[1],
        "weights": address(weights),
        "y": address(y),
        "outputs": layers[-1].outputs,
        "tallest": isa.max_rows,
        "offsets": address(ONE_SEGMENT),
        **offsets,
    }
    return Operation(
        name="collapsed",
        entry=_entry(isa),
        arguments=filled(_ARGUMENTS, fields),
        parts=parts,
        scratch_bytes=end,
        multiply_adds=multiply_adds(layers, batch, count, tangents),
        keeps=(x, directions, weights, y, table, kept),
    )


def multiply_adds(layers: Sequence[ChainLayer], batch: int, count: int, tangents: int = 0) -> int:
    """Return the multiply-adds of the products, without those of padding and of the directions in the first layer."""
    first, *others = (layer.inputs * layer.outputs for layer in layers)
    rows = batch * (2 + count)
    return batch * first * (1 + tangents) + sum(others) * rows * (1 + 2 * tangents)


def _table(
    isa: InstructionSet, layers: Sequence[ChainLayer], tangents: int, count: int, sizes: set[int]
) -> tuple[npt.NDArray[Any], Any]:
    """Return the records of the layers, and what must be kept alive."""
    table = np.zeros(len(layers), _LAYER)
    kept: list[Any] = [layers]
    for number, (row, layer) in enumerate(zip(table, layers, strict=True)):
        runs = {size * (2 + count) for size in sizes} if number else {*sizes, count}
        tall = set().union(*(heights(run, isa.max_rows) for run in runs))
        last = layer.outputs - (layer.weight.shape[0] - 1) * PANEL
        tiles = tile_table(isa, tall, 1, True, None, last, ahead=True)
        moved = tiles
        if tangents:
            moved = tile_table(isa, tall, 1, number > 0, "float", last, ahead=True)
        kept += [tiles, moved]
        values = {
            "weight": address(layer.weight),
            "bias": address(layer.bias),
            "v": address(layer.v),
            "v_bias": address(layer.v_bias),
            "inputs": layer.inputs,
            "panels": layer.weight.shape[0],
            "ld": leading(layer.outputs),
            "activate": _activation(layer.activation),
            "tiles": address(tiles),
            "tangent_tiles": address(moved),
        }
        for name, value in values.items():
            row[name] = value
    return table, kept


@cache
def _activation(name: str) -> int:
    """Return the address of a kernel ``(z, bias, jet)`` that computes a and its derivatives of a panel's row z + b."""
    rule, curvature = rule_of(name), curvature_of(name)

    def activate(z: int, bias: int, jet: int) -> None:
        product, shift = carray(pointer(z, np.float32), PANEL), carray(pointer(bias, np.float32), PANEL)
        # One array for all results: of several, the compiler would have to know that they do not overlap.
        rows = carray(pointer(jet, np.float32), (JET_ROWS, PANEL))
        for n in range(PANEL):
            rows[VALUE, n] = product[n] + shift[n]
        for n in range(PANEL):
            at = rows[VALUE, n]
            value, slope = rule(at)
            bend, bend_slope = curvature(at, value, slope)
            rows[VALUE, n] = value
            rows[SLOPE, n] = slope
            rows[BEND, n] = bend
            rows[BEND_SLOPE, n] = bend_slope

    return kernel(f"collapsed-activation-{name}", activate, 3)


@cache
def _entry(isa: InstructionSet) -> int:
    carry, carry_tangent = collapse(isa), collapse_tangent(isa)

    def collapsed(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        layers = carray(pointer(a.layers, _LAYER), a.depth)
        begin, end = split(a.batch, parts, part)
        points = end - begin
        read, write = a.scratch + a.at_read, a.scratch + a.at_write
        zeros = carray(pointer(a.scratch + a.at_zeros, np.float32), PANEL)
        for n in range(PANEL):
            zeros[n] = np.float32(0)
        for number in range(a.depth):
            layer = layers[number]
            following = layers[number + 1 if number + 1 < a.depth else 0]
            ld = layers[number - 1].ld if number > 0 else 0
            for panel in range(layer.panels):
                later = layer.weight + (panel + 1) * layer.inputs * ROW
                if panel + 1 == layer.panels:
                    later = following.weight
                _products(a, layer, number, panel, begin, points, read, ld, later)
                _carry(a, layer, number, panel, points, write, carry, carry_tangent)
            read, write = write, read
        _copy(a, begin, points, read, layers[a.depth - 1].ld)

    return kernel(f"collapsed-{isa.vectors}", collapsed, 3)


@register_jitable
def _products(
    a: Any, layer: Any, number: int, panel: int, begin: int, points: int, read: int, ld: int, later: int
) -> None:
    """Multiply all rows of a part with a panel of the weight, and of their tangents with it and with a panel of V."""
    rows = points * (2 + a.count)
    out, block = a.scratch + a.at_products, _block(a, points)
    if number == 0:
        x = a.x + begin * a.ld_x * 4
        for t in range(1 + a.tangents):
            _tiles(a, layer, t, panel, points, x, x, a.ld_x, out + t * block, later)
            at = out + t * block + points * ROW
            _tiles(a, layer, t, panel, a.count, a.directions, a.directions, a.ld_directions, at, later)
        return
    for t in range(1 + a.tangents):
        _tiles(a, layer, t, panel, rows, read + t * rows * ld * 4, read, ld, out + t * block, later)


@register_jitable
def _block(a: Any, points: int) -> int:
    """Return the bytes of one tangent's products."""
    return max(points * (2 + a.count), points + a.count) * ROW


@register_jitable
def _tiles(
    a: Any, layer: Any, t: int, panel: int, rows: int, x: int, still: int, ld: int, out: int, later: int
) -> None:
    """Multiply `rows` rows of x with W and, for a tangent t, those of `still` with V."""
    weight = layer.weight + panel * layer.inputs * ROW
    v, tiles = 0, layer.tiles
    if t > 0:
        v, tiles = layer.v + ((t - 1) * layer.panels + panel) * layer.inputs * ROW, layer.tangent_tiles
    addresses = carray(pointer(tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    kind = LAST if panel == layer.panels - 1 else SINGLE
    count = tile_count(rows, a.tallest)
    step = layer.inputs * ROW // (count * layer.inputs)
    row = 0
    for tile in range(count):
        height = tile_rows(rows, count, tile)
        at = row * ld * 4
        operands = (x + at, still + at, ld, weight, 0, v, 0, out + row * ROW, 0)
        ahead = (later + tile * layer.inputs * step, step)
        call(addresses[TILE_KINDS * height + kind], (1, a.offsets, layer.inputs, *operands, *ahead))
        row += height


@register_jitable
def _carry(
    a: Any, layer: Any, number: int, panel: int, points: int, write: int, carry: Any, carry_tangent: Any
) -> None:
    """Carry the rows of all points of a part, and of their tangents, through the activation."""
    rows, jet, zeros = 2 + a.count, a.scratch + a.at_jet, a.scratch + a.at_zeros
    block = _block(a, points)
    for point in range(points):
        value = a.scratch + a.at_products + point * (rows if number > 0 else 1) * ROW
        first, second = value + ROW, value + (rows - 1) * ROW
        if number == 0:
            first, second = a.scratch + a.at_products + points * ROW, zeros
        call(layer.activate, (value, layer.bias + panel * ROW, jet))
        y = write + (point * rows * layer.ld + panel * PANEL) * 4
        carry(a.count, first, second, jet, a.weights, y, layer.ld)
        for t in range(1, 1 + a.tangents):
            moved = value + t * block
            _shift(moved, layer.v_bias + ((t - 1) * layer.panels + panel) * ROW)
            moved_second = second + t * block if number > 0 else zeros
            dy = y + t * points * rows * layer.ld * 4
            carry_tangent(
                a.count, first, second, jet, a.weights, moved, first + t * block, moved_second, dy, layer.ld
            )


@register_jitable
def _shift(row: int, by: int) -> None:
    sums, shift = carray(pointer(row, np.float32), PANEL), carray(pointer(by, np.float32), PANEL)
    for n in range(PANEL):
        sums[n] += shift[n]


@register_jitable
def _copy(a: Any, begin: int, points: int, read: int, ld: int) -> None:
    """Copy the last layer's rows to the result, without their padding."""
    rows = 2 + a.count
    for t in range(1 + a.tangents):
        y = a.y + (t * a.batch + begin) * rows * a.outputs * 4
        for row in range(points * rows):
            at = carray(pointer(read + (t * points * rows + row) * ld * 4, np.float32), a.outputs)
            out = carray(pointer(y + row * a.outputs * 4, np.float32), a.outputs)
            for n in range(a.outputs):
                out[n] = at[n]
