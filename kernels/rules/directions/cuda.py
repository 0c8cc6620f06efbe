"""Directions that are drawn inside GPU kernels, from the counters of ``kernels.rules.philox``; they equal the CPU's.

Functions take `stream`, the address of a ``philox.STREAM``, and `c2`, which is direction << 12 | parameter in 64 bits;
the lower 32 are part of the counter (see ``philox.ORTHOGONAL``). A panel is 32 columns of a matrix; a lane is one of
these.
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, pure_function
from fgnumba.kernels.cuda.primitives import add_u32, bits_of, float_of, load_i64, mul_hi_lo
from fgnumba.kernels.rules.directions.normal import normal_pair
from fgnumba.kernels.rules.philox import (
    DIRECTION_SHIFT,
    FAMILY,
    GAUSSIAN_PANEL_SHIFT,
    ORTHOGONAL,
    PURPOSE_SHIFT,
    STREAM,
)

Words = tuple[np.uint32, np.uint32, np.uint32, np.uint32]

_STEP, _KEY_LOW, _KEY_HIGH = (STREAM.fields[name][1] for name in ("step", "key_low", "key_high"))  # type: ignore[index]
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint32(0xD2511F53), np.uint32(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_ROUNDS = 10
_MASK = 0xFFFFFFFF
_ZERO, _ONE = np.uint32(0), np.uint32(1)
_ONE_BITS, _LAST = np.uint32(0x3F800000), np.uint32(31)


@pure_function
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Words:
    """Return the four words of Philox4x32-10 for a counter (c0 to c3) and a key (k0 and k1)."""
    for _ in range(_ROUNDS):
        high_0, low_0 = mul_hi_lo(_MULTIPLIER_0, c0)
        high_1, low_1 = mul_hi_lo(_MULTIPLIER_1, c2)
        c0, c1 = np.uint32(np.uint32(high_1 ^ c1) ^ k0), low_1
        c2, c3 = np.uint32(np.uint32(high_0 ^ c3) ^ k1), low_0
        k0, k1 = add_u32(k0, _WEYL_0), add_u32(k1, _WEYL_1)
    return c0, c1, c2, c3


@device_function
def words(stream: int, c0: int, c1: int, c2: int) -> Words:
    """Return the four words that the stream's step gives for a counter."""
    step, low, high = load_i64(stream + _STEP), load_i64(stream + _KEY_LOW), load_i64(stream + _KEY_HIGH)
    return philox(
        np.uint32(c0 & _MASK),
        np.uint32(c1 & _MASK),
        np.uint32(c2 & _MASK),
        np.uint32(step & _MASK),
        np.uint32(low & _MASK),
        np.uint32(high & _MASK),
    )


@device_function
def pick(four: Words, i: int) -> np.uint32:
    """Return word `i` of four; indexing the tuple would put it into local memory."""
    low = four[0] if i & 1 == 0 else four[1]
    high = four[2] if i & 1 == 0 else four[3]
    return low if i & 2 == 0 else high


@device_function
def walsh_word(member: int) -> np.uint32:
    """Return the word whose bit ``lane`` is set where member & lane has an odd number of ones."""
    word = _ZERO
    if member & 1:
        word = np.uint32(word ^ np.uint32(0xAAAAAAAA))
    if member & 2:
        word = np.uint32(word ^ np.uint32(0xCCCCCCCC))
    if member & 4:
        word = np.uint32(word ^ np.uint32(0xF0F0F0F0))
    if member & 8:
        word = np.uint32(word ^ np.uint32(0xFF00FF00))
    if member & 16:
        word = np.uint32(word ^ np.uint32(0xFFFF0000))
    return word


@device_function
def sign_words(stream: int, quad: int, panel: int, purpose: int, c2: int) -> Words:
    """Return the signs of rows 4 quad to 4 quad + 3 of a panel: bit ``lane`` of a row's word set means -1."""
    direction = c2 >> DIRECTION_SHIFT
    member = direction % FAMILY if direction >= ORTHOGONAL else 0
    found = words(stream, quad, (purpose << PURPOSE_SHIFT) + panel, c2 - (member << DIRECTION_SHIFT))
    turned = walsh_word(member)
    return (
        np.uint32(found[0] ^ turned),
        np.uint32(found[1] ^ turned),
        np.uint32(found[2] ^ turned),
        np.uint32(found[3] ^ turned),
    )


@device_function
def signed_one(word: np.uint32, lane: int) -> np.float32:
    """Return 1 or -1, the sign of a lane in a word of signs."""
    return float_of(
        np.uint32(np.uint32(np.uint32(np.uint32(word >> np.uint32(lane)) & _ONE) << _LAST) | _ONE_BITS)
    )


@device_function
def turned(value: np.float32, word: np.uint32, lane: int) -> np.float32:
    """Return `value`, whose sign is turned where the lane's bit of the word is set."""
    return float_of(
        np.uint32(bits_of(value) ^ np.uint32(np.uint32(np.uint32(word >> np.uint32(lane)) & _ONE) << _LAST))
    )


@device_function
def gaussian(stream: int, row: int, panel: int, lane: int, purpose: int, c2: int) -> np.float32:
    """Return the entry of a Gaussian direction in a row, a panel and a lane."""
    entry = 32 * (row & 3) + lane
    place = entry & 63
    c1 = (purpose << PURPOSE_SHIFT) + (panel << GAUSSIAN_PANEL_SHIFT) + (place & 15)
    first, second = normal_pair(pick(words(stream, row >> 2, c1, c2), place >> 4))
    return float_of(first if entry < 64 else second)


@device_function
def sign_of_vector(stream: int, i: int, purpose: int, c2: int) -> np.float32:
    """Return entry `i` of a vector of signs, which is laid out as one panel of 32 columns."""
    return signed_one(pick(sign_words(stream, i >> 7, 0, purpose, c2), (i >> 5) & 3), i & 31)


@device_function
def gaussian_of_vector(stream: int, i: int, purpose: int, c2: int) -> np.float32:
    """Return entry `i` of a Gaussian vector."""
    return gaussian(stream, i >> 5, 0, i & 31, purpose, c2)
