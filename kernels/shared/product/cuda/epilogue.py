"""Steps by which the sums of a tile are finished, four columns of a row at a time: biases, directions, activations."""

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.primitives import (
    Floats,
    fma,
    load_f32,
    load_f32x4,
    shared_load_f32,
    shared_load_f32x4,
    store_f32,
    store_f32x4,
)
from fgnumba.kernels.rules.activations.cuda import leaky
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN
from fgnumba.kernels.rules.directions.cuda import gaussian_of_vector, pick, sign_words, signed_one
from fgnumba.kernels.rules.philox import ENTRY
from fgnumba.kernels.shared.product.cuda.operands import Directions


@device_function
def four_signs_of_vector(stream: int, n: int, purpose: int, c2: int) -> Floats:
    """Return entries n to n + 3 of a vector of signs; `n` is a multiple of 4."""
    word = np.uint32(pick(sign_words(stream, n >> 7, 0, purpose, c2), (n >> 5) & 3) >> np.uint32(n & 31))
    return signed_one(word, 0), signed_one(word, 1), signed_one(word, 2), signed_one(word, 3)


@device_function
def four_of_bias(directions: Directions, given: int, n: int, c2: int) -> Floats:
    """Return four entries of a bias's direction.

    Parameters
    ----------
    directions : Directions
        Directions of the layer.
    given : int
        Elements from ``directions.v_bias`` to the first entry, where directions are given.
    n : int
        Number of the first entry, a multiple of 4.
    c2 : int
        Direction and parameter, as the counter takes them.

    Returns
    -------
    tuple of float32
        Entries n to n + 3.
    """
    if directions.kind == EXPLICIT:
        return load_f32x4(directions.v_bias + 4 * given)
    if directions.kind == GAUSSIAN:
        stream = directions.stream
        return (
            gaussian_of_vector(stream, n, ENTRY, c2),
            gaussian_of_vector(stream, n + 1, ENTRY, c2),
            gaussian_of_vector(stream, n + 2, ENTRY, c2),
            gaussian_of_vector(stream, n + 3, ENTRY, c2),
        )
    return four_signs_of_vector(directions.stream, n, ENTRY, c2)


@device_function
def plus(a: Floats, b: Floats) -> Floats:
    """Return a + b, entry by entry."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


@device_function
def times(a: Floats, b: Floats) -> Floats:
    """Return a b, entry by entry."""
    return a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]


@device_function
def scaled(factor: np.float32, a: Floats, b: Floats) -> Floats:
    """Return factor a + b, entry by entry, each rounded once."""
    return (
        fma(factor, a[0], b[0]),
        fma(factor, a[1], b[1]),
        fma(factor, a[2], b[2]),
        fma(factor, a[3], b[3]),
    )


@device_function
def summed(place: int, stride: int, teams: int) -> Floats:
    """Return four sums, added up over the teams in order.

    Parameters
    ----------
    place : int
        Address in shared memory of the first team's sums.
    stride : int
        Bytes from one team's sums to the next team's.
    teams : int
        Number of teams.

    Returns
    -------
    tuple of float32
        Four sums.
    """
    found = shared_load_f32x4(place)
    for team in range(1, teams):
        found = plus(found, shared_load_f32x4(place + team * stride))
    return found


@device_function
def added(place: int, count: int) -> np.float32:
    """Return the sum of `count` neighbouring float32 in shared memory, added in order."""
    total = np.float32(0)
    for i in range(count):
        total = total + shared_load_f32(place + 4 * i)
    return total


@device_function
def activated(z: Floats, alpha: np.float32) -> tuple[Floats, Floats]:
    """Return a(z) and a'(z) of four numbers, for the activations that are part of a product."""
    (a, da), (b, db) = leaky(z[0], alpha), leaky(z[1], alpha)
    (c, dc), (d, dd) = leaky(z[2], alpha), leaky(z[3], alpha)
    return (a, b, c, d), (da, db, dc, dd)


@device_function
def write(at: int, values: Floats, count: int, wide: int) -> None:
    """Write the first `count` of four values; where `wide`, all four in one access to a multiple of 16 bytes."""
    if wide:
        store_f32x4(at, values)
    else:
        store_f32(at, values[0])
        if count > 1:
            store_f32(at + 4, values[1])
        if count > 2:
            store_f32(at + 8, values[2])
        if count > 3:
            store_f32(at + 12, values[3])


@device_function
def read(at: int, count: int) -> Floats:
    """Return the `count` float32 that begin at an address, up to four, followed by zeros."""
    zero = np.float32(0)
    return (
        load_f32(at),
        load_f32(at + 4) if count > 1 else zero,
        load_f32(at + 8) if count > 2 else zero,
        load_f32(at + 12) if count > 3 else zero,
    )
