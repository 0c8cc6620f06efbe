"""Attention: y = softmax(scale q kᵀ + mask) v with its tangents, and its slope in closed form.

Dropout after the softmax is drawn by place: whether query i of head h sees key j is the word ``j & 3`` of the Philox
block at counter

    (i % 2**14 << 18 | j >> 2,  ATTENDED << 24 | example,  i >> 14 << 22 | h << 12 | layer,  step)

A key is kept if its word is at least rate 2**32.
"""

KEY_BITS = 18
"""Bits of the counter that count blocks of four keys."""

QUERY_BITS = 14
"""Bits of a query's number that stand beside the keys'; the rest stands above the head's."""

HEAD_SHIFT, QUERY_SHIFT = 12, 22
"""Places of the head's number, and of the rest of the query's, above the layer's."""

MOST_KEYS, MOST_QUERIES, MOST_HEADS, MOST_EXAMPLES = 1 << 20, 1 << 24, 1 << 10, 1 << 24
"""What the counter has room for."""

KEYS = 128
"""Keys of a block on the CPU, the same on every machine: the sums of a row are rescaled from block to block."""

SCORE_ROW = KEYS + 16
"""Elements from one row of scores to the next: an odd number of cache lines, which spreads rows over a cache."""

SCALE, KEPT, ONE = range(3)
"""Numbers that a kernel on the CPU reads in the operands' dtype: the factor of scores, dropout's 1 / (1 - rate), 1."""
