"""Scores of attention on a GPU: which keys a query sees, and which of them dropout keeps."""

from typing import Any, NamedTuple

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.primitives import (
    Address,
    Real,
    Size,
    load_f32,
    load_u8,
    narrow,
    shared_store_f32,
    thread,
)
from fgnumba.kernels.layout.heads import Mask
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.ops.attention import HEAD_SHIFT, KEY_BITS, QUERY_BITS, QUERY_SHIFT
from fgnumba.kernels.ops.attention.loads_cuda import SIDE, THREADS, Sizes
from fgnumba.kernels.rules.directions.cuda import words
from fgnumba.kernels.rules.philox import ATTENDED, PURPOSE_SHIFT

_QUADS = SIDE // 4  # blocks of four keys, which one counter decides about
_QUAD_SHIFT = _QUADS.bit_length() - 1
_ZERO, _NEGATIVE_INF = np.float32(0), np.float32(-np.inf)


class Seen(NamedTuple):
    """What scores are multiplied by, which keys a query sees, and what is added to its scores.

    Parameters
    ----------
    scale : Real
        Scale of the scores.
    causal : Size
        Whether query i sees only keys up to i + Lk - Lq.
    boolean : Size
        Whether the mask is of bytes.
    mask : Address
        Address of the mask; 0: there is none.
    example, head, row : Size
        Elements of the mask from one example, head or query to the next.
    """

    scale: Real
    causal: Size
    boolean: Size
    mask: Address
    example: Size
    head: Size
    row: Size


class Dropped(NamedTuple):
    """Dropout of the softmax's results.

    Parameters
    ----------
    on : Size
        Whether there is any.
    layer : Size
        Number of the layer in the counter.
    factor : Real
        What a key that is kept is multiplied by.
    threshold : Address
        A key is kept if its word is at least this.
    stream : Address
        Address of the ``philox.STREAM``.
    """

    on: Size
    layer: Size
    factor: Real
    threshold: Address
    stream: Address


def seen(scale: float, causal: bool, mask: Mask | None) -> Seen:
    """Return what a kernel must know of the scores."""
    factor: Any = np.float32(scale)
    if mask is None:
        return Seen(factor, int(causal), 0, 0, 0, 0, 0)
    strides = (mask.example, mask.head, mask.row)
    return Seen(factor, int(causal), int(mask.boolean), address(mask.memory), *strides)


def dropped(rate: float, stream: Any, layer: int) -> Dropped:
    """Return what a kernel must know of dropout."""
    factor: Any = np.float32(1 / (1 - rate))
    return Dropped(int(rate > 0), layer, factor, round(rate * 2**32), address(stream))


@device_function
def keys_seen(seen: Seen, n: Sizes, query: int) -> int:
    """Return the number of the first keys that a query, or one before it, may see; the mask may hide some of them."""
    if not seen.causal:
        return narrow(n.keys)
    return narrow(max(0, min(n.keys, query + 1 + n.keys - n.queries)))


@device_function
def score(product: np.float32, seen: Seen, n: Sizes, mask_at: int, query: int, key: int) -> np.float32:
    """Return the score of a query and a key; -inf where the key is not seen, or one of them is not there.

    Parameters
    ----------
    product : float32
        q · k.
    seen : Seen
        Scale and mask.
    n : Sizes
        Numbers of queries and keys.
    mask_at : int
        Elements from the mask's first to the first of the example's head.
    query, key : int
        Numbers of the query and the key.
    """
    value = np.float32(seen.scale) * product
    if query >= n.queries or key >= keys_seen(seen, n, query):
        value = _NEGATIVE_INF
    elif seen.mask:
        place = mask_at + query * seen.row + key
        if seen.boolean:
            value = value if load_u8(seen.mask + place) else _NEGATIVE_INF
        else:
            added = load_f32(seen.mask + 4 * place)
            value = _NEGATIVE_INF if added == _NEGATIVE_INF else value + added
    return value


@device_function
def draw_factors(
    at: int,
    by_query: int,
    by_key: int,
    dropped: Dropped,
    example: int,
    head: int,
    query: int,
    key: int,
) -> None:
    """Write dropout's factors of 32 queries and 32 keys to shared memory.

    Parameters
    ----------
    at : int
        Address of the first factor.
    by_query, by_key : int
        Bytes from one query's factor to the next one's, and from one key's.
    dropped : Dropped
        Dropout.
    example, head : int
        Numbers of the example and of the head of queries.
    query, key : int
        The first query, and the first key, a multiple of 4.
    """
    for e in range(thread(), SIDE * _QUADS, THREADS):
        i, quad = e >> _QUAD_SHIFT, e & (_QUADS - 1)
        row = query + i
        four = words(
            dropped.stream,
            ((row & ((1 << QUERY_BITS) - 1)) << KEY_BITS) + (key >> 2) + quad,
            (ATTENDED << PURPOSE_SHIFT) + example,
            ((row >> QUERY_BITS) << QUERY_SHIFT) + (head << HEAD_SHIFT) + dropped.layer,
        )
        factor = np.float32(dropped.factor)
        place = at + i * by_query + 4 * quad * by_key
        shared_store_f32(place, factor if np.int64(four[0]) >= dropped.threshold else _ZERO)
        shared_store_f32(place + by_key, factor if np.int64(four[1]) >= dropped.threshold else _ZERO)
        shared_store_f32(place + 2 * by_key, factor if np.int64(four[2]) >= dropped.threshold else _ZERO)
        shared_store_f32(place + 3 * by_key, factor if np.int64(four[3]) >= dropped.threshold else _ZERO)
