"""Rows of a table on a GPU, primal and tangents; see ``cpu``.

y_l = W[x_l] + b,  dy_l = V[x_l] + c
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, kernel
from fgnumba.kernels.cuda.layout import DualVectors, element, elementwise, first_pixel, images
from fgnumba.kernels.cuda.primitives import Address, Size, divide, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
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
    symbol = load_f32(x + 4 * (b * x_image + position))
    out = y.address + 4 * (i * y.image + column)
    if not (symbol >= _ZERO and symbol < np.float32(weights.rows)):
        for t in range(count + 1):
            store_f32(out + 4 * t * y.block, _NAN)
        return
    row = int(symbol)
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
