"""Error signals of queries, keys and values from noise, on a GPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import leading
from fgnumba.kernels.ops.attention_noise import cuda as attention_noise
from tests import tolerances


def sequences(gpu, values):
    """Return sequences (B, L, C) by position, NaN between rows."""
    batch, length, columns = values.shape
    memory = np.full((1, batch * length, leading(columns)), np.nan)
    memory[0, :, :columns] = values.reshape(-1, columns)
    return Images.of_batch(gpu.array(memory, np.float32), (length, columns), by_position=True)


def expected_of(signal, tangent, signs, heads, key_heads, causal, by_head):
    """Return the estimate in float64, by loops."""
    size = signal.shape[-1] // heads
    products = (signal.astype(np.float64) * tangent).reshape(*signal.shape[:2], heads, size).sum(-1)
    slopes = products if by_head else products.sum(-1, keepdims=True).repeat(heads, -1)
    of_keys = slopes.reshape(*slopes.shape[:2], key_heads, -1).sum(-1)
    if not by_head:
        of_keys = products.sum(-1, keepdims=True).repeat(key_heads, -1)
    later = np.flip(np.flip(of_keys, 1).cumsum(1), 1)
    seen = later if causal else np.broadcast_to(of_keys.sum(1, keepdims=True), of_keys.shape)
    factors = np.concatenate([slopes, seen, seen], -1).repeat(size, -1)
    return factors * signs


# Positions fewer and more than a block's threads.
CASES = [(1, 1, 1, 1, 1), (2, 3, 4, 2, 5), (1, 259, 1, 1, 1), (1, 2, 3, 1, 33)]


@pytest.mark.parametrize(("batch", "length", "heads", "key_heads", "size"), CASES)
@pytest.mark.parametrize(("causal", "by_head"), [(True, True), (False, True), (True, False)])
def test_an_estimate_is_that_of_float64(gpu, batch, length, heads, key_heads, size, causal, by_head):
    rng = np.random.default_rng(length)
    given = rng.standard_normal((2, batch, length, heads * size)).astype(np.float32)
    signs = rng.choice([-1.0, 1.0], (batch, length, (heads + 2 * key_heads) * size))
    signal, tangent, noise = (sequences(gpu, one) for one in (*given, signs))
    out = sequences(gpu, np.full(signs.shape, np.nan)) if by_head else noise
    how = {"heads": heads, "key_heads": key_heads, "causal": causal, "by_head": by_head}
    placed = {"signal": signal, "tangent": tangent, "signs": noise, "out": out}
    gpu.run(attention_noise.bind_estimate(1, batch=batch, **placed, **how))
    found = out.memory.download()[0, :, : signs.shape[-1]].reshape(signs.shape)
    expected = expected_of(given[0], given[1], signs, heads, key_heads, causal, by_head)
    tolerances.sums(length * heads * size).check(found, expected)
