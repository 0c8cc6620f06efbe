"""Entries of directions: drawn one at a time or into a tile of shared memory, or signs that turn those of numbers."""

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.primitives import Floats, shared_store_f32
from fgnumba.kernels.rules.directions import GAUSSIAN, RANK1
from fgnumba.kernels.rules.directions.cuda import (
    gaussian,
    pick,
    sign_of_vector,
    sign_words,
    signed_one,
    turned,
)
from fgnumba.kernels.rules.philox import ENTRY, LEFT, RIGHT
from fgnumba.kernels.shared.product.cuda.operands import Directions


@device_function
def draw_column(
    at: int, stride: int, directions: Directions, quad: int, panel: int, lane: int, c2: int
) -> None:
    """Draw four rows of a column of V, Gaussian or signs, into shared memory.

    Parameters
    ----------
    at : int
        Address in shared memory of the first row's entry.
    stride : int
        Bytes from one row to the next.
    directions : Directions
        Directions of the layer; their kind is Gaussian, else entries are signs.
    quad : int
        Number of the four rows: ``4 * quad`` is the first of them.
    panel : int
        Number of the column's panel.
    lane : int
        Number of the column in its panel.
    c2 : int
        Direction and parameter, as the counter takes them.
    """
    stream = directions.stream
    if directions.kind == GAUSSIAN:
        for i in range(4):
            shared_store_f32(at + i * stride, gaussian(stream, 4 * quad + i, panel, lane, ENTRY, c2))
    else:
        signs = sign_words(stream, quad, panel, ENTRY, c2)
        shared_store_f32(at, signed_one(signs[0], lane))
        shared_store_f32(at + stride, signed_one(signs[1], lane))
        shared_store_f32(at + 2 * stride, signed_one(signs[2], lane))
        shared_store_f32(at + 3 * stride, signed_one(signs[3], lane))


@device_function
def signed_sum(total: np.float32, values: Floats, word: np.uint32, lane: int) -> np.float32:
    """Return the total plus four values, whose signs are turned where bits `lane` to `lane` + 3 of a word are set."""
    total = total + turned(values[0], word, lane) + turned(values[1], word, lane + 1)
    return total + turned(values[2], word, lane + 2) + turned(values[3], word, lane + 3)


@device_function
def drawn_entry(directions: Directions, c2: int, row: int, column: int) -> np.float32:
    """Return one entry of a direction V that is drawn.

    Parameters
    ----------
    directions : Directions
        Directions of the layer; their kind is neither EXPLICIT nor NONE.
    c2 : int
        Direction and parameter, as the counter takes them.
    row, column : int
        Place of the entry in V.

    Returns
    -------
    float32
        The entry.
    """
    stream = directions.stream
    if directions.kind == GAUSSIAN:
        return gaussian(stream, row, column >> 5, column & 31, ENTRY, c2)
    if directions.kind == RANK1:
        return sign_of_vector(stream, row, LEFT, c2) * sign_of_vector(stream, column, RIGHT, c2)
    return signed_one(pick(sign_words(stream, row >> 2, column >> 5, ENTRY, c2), row & 3), column & 31)
