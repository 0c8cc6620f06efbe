"""Rows of a table on a GPU, primal and tangents; see ``cpu``.

y_l = W[x_l] + b,  dy_l = V[x_l] + c

The gradient of W is G[s] = Σ_(l: x_l = s) signal_l.
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, kernel
from fgnumba.kernels.cuda.layout import DualVectors, element, elementwise, first_pixel, images
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Size,
    block_x,
    block_y,
    divide,
    load_f32,
    store_f32,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.cuda.sums import warp_sum
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE
from fgnumba.kernels.rules.directions.cuda import gaussian_of_vector, sign_of_vector
from fgnumba.kernels.rules.philox import ENTRY
from fgnumba.kernels.shared.drawn.cuda import counter
from fgnumba.kernels.shared.product.cuda.entries import drawn_entry
from fgnumba.kernels.shared.product.cuda.operands import Directions, PackedWeights, directions, packed_weights
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.validation.launcher import launcher

_ZERO, _NAN = np.float32(0), np.float32(np.nan)


@launcher
def bind(isa: Any, threads: int, *, batch: int, x: Images, y: Images, weights: Weights) -> Operation:
    """Bind the operation to its arrays, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    batch : int
        Number of examples B.
    x : Images
        Symbols: B rows of L float32, (1, 1, L), whole numbers from 0 to V - 1. The row of another number is NaN.
    y : Images
        Output: B L rows (1, 1, N), written.
    weights : Weights
        W (V, N) and b, and the directions along which they move.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads a number of W and one of b, and writes one, for each element of y; for each direction, draws two or
    reads them, and writes one. No product.
    """
    length, columns = x.shape[2], y.shape[2]
    n = batch * length * columns
    arguments = {
        "x": first_pixel(x),
        "x_image": x.image,
        "y": images(DualVectors, y),
        "weights": packed_weights(weights, 1),
        "directions": directions(weights, weights.kind, 0),
        "n": n,
        "columns": columns,
        "length": length,
        "count": weights.count,
        "first": weights.first,
    }
    return Operation("embedding", (elementwise(_rows, n, arguments),), keeps=(x.memory, y.memory, weights))


@device_function
def _symbol(at: int, vocabulary: int) -> int:
    """Return the symbol at an address, or -1 if the number there is none; NaN is none."""
    symbol = load_f32(at)
    return int(symbol) if symbol >= _ZERO and symbol < np.float32(vocabulary) else -1


@device_function
def _shift(v: Directions, first: int, t: int, column: int, padded: int) -> np.float32:
    """Return an entry of a direction of b."""
    if v.bias_parameter < 0:
        return _ZERO
    if v.kind == EXPLICIT:
        return load_f32(v.v_bias + 4 * (t * padded + column))
    c2 = counter(first, t, v.bias_parameter)
    if v.kind == GAUSSIAN:
        return gaussian_of_vector(v.stream, column, ENTRY, c2)
    return sign_of_vector(v.stream, column, ENTRY, c2)


@kernel("embedding")
def _rows(
    x: Address,
    x_image: Size,
    y: DualVectors,
    weights: PackedWeights,
    directions: Directions,
    n: Size,
    columns: Size,
    length: Size,
    count: Size,
    first: Size,
) -> None:
    e = element()
    if e >= n:
        return
    i, column = divide(e, columns)
    b, position = divide(i, length)
    row = _symbol(x + 4 * (b * x_image + position), weights.rows)
    out = y.address + 4 * (i * y.image + column)
    if row < 0:
        for t in range(count + 1):
            store_f32(out + 4 * t * y.block, _NAN)
        return
    place = ((column >> 5) * weights.rows + row) * 32 + (column & 31)
    store_f32(out, load_f32(weights.weight + 4 * place) + load_f32(weights.bias + 4 * column))
    padded = 32 * weights.panels
    for t in range(count):
        value = _ZERO
        if directions.kind == EXPLICIT:
            value = load_f32(directions.v + 4 * (t * padded * weights.rows + place))
        elif directions.kind != NONE:
            value = drawn_entry(directions, counter(first, t, directions.parameter), row, column)
        store_f32(out + 4 * (t + 1) * y.block, value + _shift(directions, first, t, column, padded))


@launcher
def bind_gradient(
    isa: Any,
    threads: int,
    *,
    batch: int,
    x: Images,
    signal: Images,
    out: DeviceArray,
    onto: bool = False,
) -> Operation:
    """Bind the gradient of W from the error signals of the rows, as ``cpu.bind_gradient`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    batch : int
        Number of examples B.
    x : Images
        Symbols: B examples of one pixel with L channels. What is no symbol adds nothing.
    signal : Images
        Error signals of y: B sequences (L, 1, N) by position, or B L examples (1, 1, N).
    out : DeviceArray
        (panels, V, 32) float32, written: the gradient, packed like W, with zeros in the padding.
    onto : bool
        Whether the gradient is added to what `out` holds, whose padding is left alone.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: a warp for each place and panel reads the symbols before it, and stops if its own is among them; else it reads
    those after it, and adds up the signals of its symbol, in the order of its places. So the signals are read once, and
    symbols (B L)² times a panel at most, from caches; the gradient is written once, and read once where it is added to.
    """
    rows = signal.by_rows()
    length, columns = x.shape[2], rows.shape[2]
    panels, vocabulary, _ = out.shape
    arguments = {
        "x": first_pixel(x),
        "x_image": x.image,
        "signal": first_pixel(rows),
        "signal_row": rows.image,
        "batch": batch,
        "length": length,
        "columns": columns,
        "vocabulary": vocabulary,
        "out": out,
    }
    launches = [] if onto else [elementwise(_clear, out.size, {"out": out, "n": out.size})]
    launches.append(Launch(_gradient, (batch * length, panels, 1), arguments))
    return Operation("embedding-gradient", tuple(launches), keeps=(x.memory, signal.memory, out))


@kernel("embedding-clear")
def _clear(out: Address, n: Size) -> None:
    e = element()
    if e < n:
        store_f32(out + 4 * e, _ZERO)


@kernel("embedding-gradient", threads=WARP)
def _gradient(
    x: Address,
    x_image: Size,
    signal: Address,
    signal_row: Size,
    batch: Size,
    length: Size,
    columns: Size,
    vocabulary: Size,
    out: Address,
) -> None:
    first, first_position = divide(block_x(), length)
    row = _symbol(x + 4 * (first * x_image + first_position), vocabulary)
    if row < 0:
        return
    found = _ZERO
    for i in range(first + 1):
        end = first_position if i == first else length
        for position in range(thread(), end, WARP):
            if _symbol(x + 4 * (i * x_image + position), vocabulary) == row:
                found = np.float32(1)
    if warp_sum(found) > _ZERO:
        return
    column = WARP * block_y() + thread()
    if column >= columns:
        return
    at = out + 4 * ((block_y() * vocabulary + row) * WARP + thread())
    total = load_f32(at)
    for i in range(first, batch):
        begin = first_position if i == first else 0
        for position in range(begin, length):
            if _symbol(x + 4 * (i * x_image + position), vocabulary) == row:
                total = total + load_f32(signal + 4 * ((i * length + position) * signal_row + column))
    store_f32(at, total)
