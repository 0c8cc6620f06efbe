"""Positional embedding on a GPU: a vector of its own is added at each position, primal and tangents; see ``cpu``.

y_l = x_l + P[l],  dy_l = dx_l + V[l]

The gradient of P is G[l] = Σ_b signal_bl.
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import BlockImages, DualImages, blocks_for, element, elementwise, images
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Size, block_y, divide, load_f32, store_f32
from fgnumba.kernels.cuda.program import MAX_BLOCKS_YZ, Launch, Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.rules.directions import EXPLICIT, NONE
from fgnumba.kernels.shared.drawn.cuda import counter
from fgnumba.kernels.shared.product.cuda.entries import drawn_entry
from fgnumba.kernels.shared.product.cuda.operands import Directions, PackedWeights, directions, packed_weights
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.validation.launcher import launcher

_ZERO = np.float32(0)


@launcher
def bind(
    isa: Any,
    threads: int,
    *,
    batch: int,
    x: Images,
    y: Images,
    weights: Weights,
) -> Operation:
    """Bind the positional embedding to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    batch : int
        Number of examples B.
    x, y : Images
        Sequences (L, 1, C), which must not overlap. If x has no tangent, dy = V.
    weights : Weights
        The table P, packed from (rows, C) with at least L rows, and its directions. The bias is not read. Directions of
        kind NONE are zeros: dy = dx.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: no product. Reads x once and writes y once, primal and tangents. A thread reads or draws one element of P and
    of each V, and adds it to several examples, fewer where threads would be too few.
    """
    length, _, channels = x.shape
    memory: Any = x.memory
    blocks = blocks_for(length * channels)
    slices = max(1, min(batch, MAX_BLOCKS_YZ, -(-8 * memory.driver.processors // blocks)))
    arguments = {
        "x": images(DualImages, x),
        "y": images(DualImages, y),
        "weights": packed_weights(weights, 1),
        "directions": directions(weights, weights.kind, 0),
        "batch": batch,
        "length": length,
        "channels": channels,
        "count": weights.count,
        "tangent": int(x.has_tangent),
        "first": weights.first,
        "slices": slices,
    }
    launch = Launch(_positional_embedding, (blocks, slices, 1), arguments)
    return Operation("positional-embedding", (launch,), keeps=(x.memory, y.memory, weights))


@kernel("positional-embedding")
def _positional_embedding(
    x: DualImages,
    y: DualImages,
    weights: PackedWeights,
    directions: Directions,
    batch: Size,
    length: Size,
    channels: Size,
    count: Size,
    tangent: Size,
    first: Size,
    slices: Size,
) -> None:
    e = element()
    if e >= length * channels:
        return
    position, column = divide(e, channels)
    source = x.address + 4 * (position * x.row + column)
    out = y.address + 4 * (position * y.row + column)
    place = ((column >> 5) * weights.rows + position) * 32 + (column & 31)
    value, reads = load_f32(weights.weight + 4 * place), True
    for block in range(count + 1):
        if block:
            value, reads = _ZERO, tangent > 0
            if directions.kind == EXPLICIT:
                value = load_f32(
                    directions.v + 4 * ((block - 1) * 32 * weights.panels * weights.rows + place)
                )
            elif directions.kind != NONE:
                value = drawn_entry(
                    directions, counter(first, block - 1, directions.parameter), position, column
                )
        for i in range(block_y(), batch, slices):
            at = out + 4 * (block * y.block + i * y.image)
            if reads:
                store_f32(at, load_f32(source + 4 * (block * x.block + i * x.image)) + value)
            else:
                store_f32(at, value)


@launcher
def bind_gradient(
    isa: Any,
    threads: int,
    *,
    batch: int,
    signal: Images,
    out: DeviceArray,
    onto: bool = False,
) -> Operation:
    """Bind the gradient of P from the error signals of y, as ``cpu.bind_gradient`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    batch : int
        Number of examples B.
    signal : Images
        Error signals of y: sequences (L, 1, C).
    out : DeviceArray
        (panels, at least L rows, 32) float32, written: the gradient, packed like P, with zeros in rows from L on and in
        the padding.
    onto : bool
        Whether the gradient is added to what `out` holds, whose other entries are left alone.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads the signals once, and writes the gradient once. A thread takes an entry of it, and adds the examples up
    in their order.
    """
    length, _, columns = signal.shape
    arguments = {
        "signal": images(BlockImages, signal),
        "batch": batch,
        "length": length,
        "columns": columns,
        "rows": out.shape[1],
        "out": out,
        "onto": int(onto),
        "n": out.size,
    }
    launch = elementwise(_gradient, out.size, arguments)
    return Operation("positional-embedding-gradient", (launch,), keeps=(signal.memory, out))


@kernel("positional-embedding-gradient")
def _gradient(
    signal: BlockImages,
    batch: Size,
    length: Size,
    columns: Size,
    rows: Size,
    out: Address,
    onto: Size,
    n: Size,
) -> None:
    e = element()
    if e >= n:
        return
    panel, position = divide(e >> 5, rows)
    column = 32 * panel + (e & 31)
    total = load_f32(out + 4 * e) if onto else _ZERO
    if position < length and column < columns:
        for i in range(batch):
            at = i * signal.image + position * signal.row + column
            total = total + load_f32(signal.address + 4 * at)
    store_f32(out + 4 * e, total)
