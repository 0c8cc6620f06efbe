"""Which keys a query sees, what is added to its scores, and dropout's factors, for one row of a block of scores."""

from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, philox_words, pointer
from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.ops.attention import HEAD_SHIFT, KEPT, KEY_BITS, QUERY_BITS, QUERY_SHIFT, SCORE_ROW
from fgnumba.kernels.rules.philox import ATTENDED, PURPOSE_SHIFT, STREAM


@cache
def draw_words(isa: InstructionSet) -> int:
    """Return the address of a kernel that draws the words of one query for whole Philox blocks of keys.

    The kernel takes ``(c0, c1, c2, step, key_low, key_high, blocks, out)``: the counter of the first block, the rest of
    the counter and the key, the number of blocks of four words, and the address of the words, with room for a multiple
    of ``isa.lanes`` blocks.
    """
    words, lanes = philox_words(isa, along_row=False), isa.lanes

    def draw(c0: int, c1: int, c2: int, step: int, low: int, high: int, blocks: int, out: int) -> None:
        for block in range(0, blocks, lanes):
            words(c0 + block, c1, c2, step, low, high, out + block * 16)

    return kernel(f"attention-words-{isa.vectors}", draw, 8)


@register_jitable
def keys_seen(a: Any, query: int, j: int, n: int) -> int:
    """Return how many of the `n` keys from key `j` on a query may see, as far as causality is concerned."""
    if not a.causal:
        return n
    return max(0, min(n, query + 1 + a.keys - a.queries - j))


@register_jitable
def is_seen(a: Any, number: Any, i: int, h: int, query: int, j: int) -> bool:
    """Return whether a query of example i and head h sees key `j`."""
    if a.causal and j > query + a.keys - a.queries:
        return False
    if a.mask == 0:
        return True
    at = i * a.mask_example + h * a.mask_head + query * a.mask_row + j
    if a.mask_boolean:
        return bool(carray(pointer(a.mask, np.uint8), at + 1)[at] != 0)
    return bool(carray(pointer(a.mask, number), at + 1)[at] != number(-np.inf))


@register_jitable
def sees_any(a: Any, number: Any, i: int, h: int, query: int) -> bool:
    """Return whether a query sees any key at all."""
    j = 0
    while j < a.keys and not is_seen(a, number, i, h, query, j):
        j += 1
    return j < a.keys


@register_jitable
def prepare_row(a: Any, number: Any, i: int, h: int, query: int, j: int, n: int, row: int) -> None:
    """Write row `row` of the bias and the factors, if there are any: those of one query and `n` keys from key `j` on.

    A whole number of vectors is written.
    """
    padded = (n + a.lanes - 1) // a.lanes * a.lanes
    if a.mask != 0:
        bias = carray(pointer(a.scratch + a.at_bias + row * SCORE_ROW * a.item, number), padded)
        at = i * a.mask_example + h * a.mask_head + query * a.mask_row + j
        if a.mask_boolean:
            seen = carray(pointer(a.mask + at, np.uint8), n)
            for m in range(n):
                bias[m] = number(0) if seen[m] != 0 else number(-np.inf)
        else:
            added = carray(pointer(a.mask + at * a.item, number), n)
            for m in range(n):
                bias[m] = added[m]
        for m in range(n, padded):
            bias[m] = number(-np.inf)
    if a.dropout:
        stream = carray(pointer(a.stream, STREAM), 1)[0]
        c0 = ((query & ((1 << QUERY_BITS) - 1)) << KEY_BITS) + j // 4
        c1 = (ATTENDED << PURPOSE_SHIFT) + i
        c2 = ((query >> QUERY_BITS) << QUERY_SHIFT) + (h << HEAD_SHIFT) + a.layer
        words = a.scratch + a.at_words
        call(a.words, (c0, c1, c2, stream.step, stream.key_low, stream.key_high, (n + 3) // 4, words))
        drawn = carray(pointer(words, np.uint32), padded)
        factors = carray(pointer(a.scratch + a.at_factors + row * SCORE_ROW * a.item, number), padded)
        kept = carray(pointer(a.numbers, number), KEPT + 1)[KEPT]
        for m in range(padded):
            factors[m] = kept if np.int64(drawn[m]) >= a.threshold else number(0)
