"""Error signals of queries, keys and values from noise: the formula in float64, and the exact ones as their mean."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.layout.heads import Heads
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import aligned, leading
from fgnumba.kernels.ops.attention import cpu as attention
from fgnumba.kernels.ops.attention_noise import cpu as attention_noise
from tests import tolerances


def sequences(values):
    """Return blocks of sequences (blocks, B, L, C) by position, NaN between rows."""
    blocks, batch, length, columns = values.shape
    memory = aligned((blocks, batch * length, leading(columns)))
    memory[...] = np.nan
    memory[:, :, :columns] = values.reshape(blocks, batch * length, columns)
    return Images.of_batch(memory, (length, columns), has_tangent=blocks > 1, by_position=True)


def values_of(images, block=0):
    length, _, columns = images.shape
    return images.memory[block, :, :columns].reshape(-1, length, columns)


def estimated(signal, tangent, signs, heads, key_heads, causal, by_head, threads=1, out=None):
    out = out or sequences(np.full((1, *values_of(signs).shape), np.nan))
    operation = attention_noise.bind_estimate(
        threads,
        batch=len(values_of(signal)),
        signal=signal,
        tangent=tangent,
        signs=signs,
        out=out,
        heads=heads,
        key_heads=key_heads,
        causal=causal,
        by_head=by_head,
    )
    CPU.program([operation]).run()
    return values_of(out)


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


CASES = [(1, 1, 1, 1, 1), (2, 7, 4, 2, 5), (3, 33, 2, 2, 32), (2, 5, 3, 1, 33)]


@pytest.mark.parametrize(("batch", "length", "heads", "key_heads", "size"), CASES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("by_head", [True, False])
def test_an_estimate_is_that_of_float64(batch, length, heads, key_heads, size, causal, by_head):
    rng = np.random.default_rng(length)
    given = rng.standard_normal((2, batch, length, heads * size)).astype(np.float32)
    signs = rng.choice([-1.0, 1.0], (batch, length, (heads + 2 * key_heads) * size))
    how = heads, key_heads, causal, by_head
    expected = expected_of(given[0], given[1], signs, *how)
    signal, tangent, noise = (sequences(one[None]) for one in (*given, signs))
    within = tolerances.sums(length * heads * size)
    within.check(estimated(signal, tangent, noise, *how), expected)
    within.check(estimated(signal, tangent, noise, *how, out=noise), expected)


@pytest.mark.parametrize(("heads", "key_heads"), [(1, 1), (2, 1)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("by_head", [True, False])
def test_the_mean_over_all_signs_is_the_gradient(heads, key_heads, causal, by_head):
    columns = heads + 2 * key_heads
    signs = np.array(list(product([-1.0, 1.0], repeat=2 * columns))).reshape(-1, 2, columns)
    batch, rng = len(signs), np.random.default_rng(heads)
    qkv = np.broadcast_to(rng.standard_normal((2, columns)), signs.shape)
    dual, y = sequences(np.stack([qkv, signs])), sequences(np.zeros((2, batch, 2, heads)))
    signal = sequences(np.broadcast_to(rng.standard_normal((2, heads)), (1, batch, 2, heads)))
    widths = (heads, key_heads, key_heads)
    starts = (0, heads, heads + key_heads)

    def parts(images):
        return [Heads.of(images.channels_from(at, n), n) for at, n in zip(starts, widths, strict=True)]

    gradient, lse = sequences(np.zeros((1, batch, 2, columns))), np.zeros((batch, heads, 2), np.float32)
    (q, k, v), (dq, dk, dv) = parts(dual), parts(gradient)
    common = {"batch": batch, "q": q, "k": k, "v": v, "y": Heads.of(y, heads), "scale": 0.7, "causal": causal}
    operations = [
        attention.bind(CPU.isa, 1, count=1, log_sum_exp=lse, **common),
        *attention.bind_gradients(
            CPU.isa, 1, signal=Heads.of(signal, heads), log_sum_exp=lse, dq=dq, dk=dk, dv=dv, **common
        ),
    ]
    CPU.program(operations).run()
    tangent, noise = (replace(one, start=one.start + one.block) for one in (y, dual))
    found = estimated(signal, tangent, noise, heads, key_heads, causal, by_head)
    tolerances.ELEMENTWISE.check(found.mean(0), values_of(gradient)[0])


def test_results_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    signal, tangent = (sequences(rng.standard_normal((1, 9, 64, 64)).astype(np.float32)) for _ in range(2))
    signs = sequences(rng.choice([-1.0, 1.0], (1, 9, 64, 192)))
    bits = {
        estimated(signal, tangent, signs, 4, 4, True, True, threads=threads).tobytes()
        for threads in (1, 2, 5)
    }
    assert len(bits) == 1
