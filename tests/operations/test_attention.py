"""Attention by itself and its JVP against float64, with masks, dropout, grouped heads and absent tangents."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from tests.attention_cases import case, wide
from tests.references import attention_reference
from tests.tolerances_attention import attention_within

# What is given here is not what annotations ask for, or comes in a list.
attention_jvp: Any = fg.attention_jvp
DTYPES = ("float32", "float64")
MANY, SOME = 2000, 9
"""Cases of each dtype, and how many of them one case of the short test stands for."""


def check(seed, dtype):
    """Compare one case with float64."""
    one = case(seed, dtype)
    y, dy = attention_jvp(*one.operands, *one.tangents, **one.options)
    expected, moved, sizes, _ = one.expected()
    assert y.dtype == dy.dtype == dtype
    where = f"case {seed}: {[x.shape for x in one.operands]}, {[x is not None for x in one.tangents]}"
    attention_within(dtype, sizes[0]).check(y, expected, f"y of {where}")
    attention_within(dtype, sizes[1]).check(dy, np.broadcast_to(moved, dy.shape), f"dy of {where}")
    blind = ~one.seen.any(-1)
    assert not y[blind].any()
    assert not dy[..., blind, :].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("part", range(4))
def test_the_jvp_agrees_with_float64(dtype, part):
    for seed in range(part, MANY, 4 * SOME):
        check(seed, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("part", range(4))
def test_the_jvp_agrees_with_float64_in_all_cases(dtype, part):
    for seed in range(part, MANY, 4):
        check(seed, dtype)


def operands(rng, *shapes, dtype=np.float32) -> Any:
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


SHAPES = ((2, 6, 26, 16), (2, 3, 32, 16), (2, 3, 32, 16))


def test_attention_is_the_primal_of_its_jvp():
    q, k, v = operands(np.random.default_rng(0), *SHAPES)
    for options in ({}, {"causal": True}, {"dropout": 0.4, "seed": 5}):
        y, dy = attention_jvp(q, k, v, q, k, v, **options)
        np.testing.assert_array_equal(fg.attention(q, k, v, **options), y)
        assert dy.any()
    y, dy = attention_jvp(q, k, v, None, None, None)
    assert not dy.any()
    assert dy.shape == y.shape


def test_axes_may_be_missing_or_more():
    rng = np.random.default_rng(1)
    q, k, v, dk = operands(rng, *SHAPES, (2, 3, 32, 16))
    y, dy = attention_jvp(q, k, v, None, dk, None, causal=True)
    more = attention_jvp(*(x[:, None, None] for x in (q, k, v)), None, dk[:, None, None], None, causal=True)
    np.testing.assert_array_equal(more[0][:, 0, 0], y)
    np.testing.assert_array_equal(more[1][:, 0, 0], dy)
    one = attention_jvp(q[0], k[0], v[0], None, dk[0], None, causal=True)
    np.testing.assert_array_equal(one[0], y[0])
    alone = attention_jvp(q[0, 3], k[0, 1], v[0, 1], None, dk[0, 1], None, causal=True)
    np.testing.assert_array_equal(alone[1], dy[0, 3])
    empty = fg.attention(q[:0], k[:0], v[:0])
    assert empty.shape == (0, *y.shape[1:])
    no_keys = attention_jvp(q, k[:, :, :0], v[:, :, :0], q, None, None)
    assert no_keys[0].shape == y.shape
    assert not np.any(no_keys)


def test_each_direction_is_what_it_is_alone():
    rng = np.random.default_rng(2)
    q, k, v, *tangents = operands(rng, *SHAPES, *((9, *shape) for shape in SHAPES))
    _, together = attention_jvp(q, k, v, *tangents, causal=True)
    for t in (0, 6, 7, 8):
        y, alone = attention_jvp(q, k, v, *(x[t] for x in tangents), causal=True)
        attention_within("float32", abs(alone).max()).check(together[t], alone)
    assert attention_jvp(q, k, v, *(x[:0] for x in tangents))[1].shape == (0, *y.shape)


def test_arrays_that_lie_otherwise_are_read_as_they_are():
    rng = np.random.default_rng(3)
    q, k, v, dq = operands(rng, *SHAPES, SHAPES[0])
    expected = attention_jvp(q, k, v, dq, None, v)
    apart = [np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2) for x in (q, k, v, dq)]
    across = [np.asfortranarray(x) for x in (q, k, v, dq)]
    behind = [np.ascontiguousarray(x[::-1, :, ::-1])[::-1, :, ::-1] for x in (q, k, v, dq)]
    packed = [np.zeros(x.shape, [("byte", "i1"), ("x", "f4")]) for x in (q, k, v, dq)]
    for one, x in zip(packed, (q, k, v, dq), strict=True):
        one["x"] = x
    for q_, k_, v_, dq_ in (
        apart,
        across,
        behind,
        [one["x"] for one in packed],
        [apart[0], k, across[2], dq],
    ):
        for found, right in zip(attention_jvp(q_, k_, v_, dq_, None, v_), expected, strict=True):
            np.testing.assert_array_equal(found, right)
    shared = np.broadcast_to(k[:1, :1], k.shape)
    np.testing.assert_array_equal(fg.attention(q, shared, v), fg.attention(q, shared.copy(), v))
    frozen = q.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(fg.attention(frozen, k, v), expected[0])


def test_a_mask_may_have_any_layout():
    q, k, v = operands(np.random.default_rng(4), *SHAPES)
    seen = np.random.default_rng(5).random((26, 32)) < 0.5
    added = np.where(seen, 0, -np.inf).astype(np.float32)
    expected = fg.attention(q, k, v, mask=seen)
    for mask in (
        np.asfortranarray(seen),
        np.broadcast_to(seen, (2, 6, 26, 32)),
        seen[::-1, ::-1].copy()[::-1, ::-1],
    ):
        np.testing.assert_array_equal(fg.attention(q, k, v, mask=mask), expected)
    attention_within("float32", abs(v).max()).check(fg.attention(q, k, v, mask=added), expected)
    rows = fg.attention(q, k, v, mask=seen[:, :1])
    assert not rows[:, :, ~seen[:, 0]].any()
    np.testing.assert_array_equal(rows[:, :, seen[:, 0]], fg.attention(q, k, v)[:, :, seen[:, 0]])
    np.testing.assert_array_equal(fg.attention(q, k, v, mask=np.ones((), bool)), fg.attention(q, k, v))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_seen_has_no_influence(bad):
    rng = np.random.default_rng(6)
    q, k, v, *tangents = operands(rng, *SHAPES, *SHAPES)
    seen = rng.random((26, 32)) < 0.5
    seen[:, [3, 30]] = False
    for options in ({"mask": seen}, {"mask": np.where(seen, 0, -np.inf).astype(np.float32)}):
        expected = attention_jvp(q, k, v, *tangents, **options)
        spoilt = [x.copy() for x in (k, v, tangents[1], tangents[2])]
        for x in spoilt:
            x[..., [3, 30], :] = bad
        found = attention_jvp(q, spoilt[0], spoilt[1], tangents[0], spoilt[2], spoilt[3], **options)
        for one, right in zip(found, expected, strict=True):
            attention_within("float32", abs(right).max()).check(one, right)
    spoilt = [x.copy() for x in (k, v, tangents[1], tangents[2])]
    for x in spoilt:
        x[..., -1, :] = bad
    found = attention_jvp(q, spoilt[0], spoilt[1], tangents[0], spoilt[2], spoilt[3], causal=True)
    expected = attention_jvp(q, k, v, *tangents, causal=True)
    for one, right in zip(found, expected, strict=True):
        attention_within("float32", abs(right).max()).check(one[:, :, :-1], right[:, :, :-1])
        assert not np.isfinite(one[:, :, -1]).all()


def test_numbers_that_are_not_finite_come_out_as_of_a_softmax():
    q, k, v = operands(np.random.default_rng(7), (1, 3, 4), (1, 5, 4), (1, 5, 4))
    for spoil in ((q, np.nan), (k, np.nan), (q, np.inf)):
        spoilt = {id(x): x.copy() for x in (q, k, v)}
        spoilt[id(spoil[0])][0, 1, 2] = spoil[1]
        with np.errstate(invalid="ignore", over="ignore"):
            scores = wide(spoilt[id(q)]) @ wide(spoilt[id(k)]).swapaxes(-1, -2) / 2
            e = np.exp(scores - scores.max(-1, keepdims=True))
            right = np.isfinite((e / e.sum(-1, keepdims=True)) @ wide(v))
        found = fg.attention(*(spoilt[id(x)] for x in (q, k, v)))
        np.testing.assert_array_equal(np.isfinite(found), right)
    # All scores are -inf by themselves: no key is hidden, and the softmax is not defined.
    ones = np.ones((1, 1, 1), np.float32)
    assert np.isnan(fg.attention(-np.inf * ones, ones, ones)).all()


@pytest.mark.parametrize("size", [1, 15, 16, 33])
def test_a_single_key_has_no_slope(size):
    q, k, v, dq, dk = operands(
        np.random.default_rng(11), *[(3, 13, size)] * 1, *[(3, 1, size)] * 2, (3, 13, size), (3, 1, size)
    )
    y, dy = attention_jvp(q, k, v, dq, dk, None)
    np.testing.assert_array_equal(y, np.broadcast_to(v, y.shape))
    assert not dy.any()


def test_the_slope_of_a_query_that_looks_at_one_key_is_accurate():
    rng = np.random.default_rng(12)
    q, k, v, dq, dk = operands(rng, *[(1, 1, 13, 8)] * 5)
    k[..., 0, :] *= 4 / np.linalg.norm(k[..., 0, :])
    k[..., 1:, :] *= np.float32(0.2)
    q[:] = k[..., :1, :] * np.float32(14 / 16 * 8**0.5)
    _, dy = attention_jvp(q, k, v, dq, dk, None)
    scale, ones = 8**-0.5, np.ones((1, 1, 13, 13))
    given = [
        *(wide(x) for x in (q, k, v)),
        [wide(dq)[None], wide(dk)[None], None],
        scale,
        ones > 0,
        0 * ones,
        ones,
    ]
    expected = attention_reference.attention_jvp(*given)[1][0]
    # The terms that cancel are thousands of times as large.
    assert abs(expected).max() < abs(v).max() / 5000
    attention_within("float32", abs(expected).max()).check(dy, expected)


def test_large_scores_neither_overflow_nor_vanish():
    rng = np.random.default_rng(8)
    q, k, v, dv = operands(rng, (1, 13, 8), (1, 65, 8), (1, 65, 8), (1, 65, 8), dtype=np.float64)
    y, dy = attention_jvp(q, k, v, None, None, dv, scale=1e4)
    best = (q @ k.swapaxes(-1, -2)).argmax(-1)[0]
    attention_within("float64", abs(v).max()).check(y[0], v[0, best])
    attention_within("float64", abs(dv).max()).check(dy[0], dv[0, best])


def test_dropout_drops_what_the_generator_says_and_keeps_the_mean():
    rng = np.random.default_rng(9)
    q, k, v = operands(rng, (2, 2, 64, 8), (2, 2, 150, 8), (2, 2, 150, 1))
    ones = np.ones_like(v)
    seed = 2**64 - 3
    y = fg.attention(0 * q, k, ones, dropout=0.5, seed=seed)
    factors = attention_reference.kept((2, 2, 64, 150), 0.5, seed)
    attention_within("float32", 2).check(y[..., 0], factors.mean(-1))
    other = fg.attention(0 * q, k, ones, dropout=0.5, seed=1)
    assert (other != y).any()
    np.testing.assert_array_equal(fg.attention(0 * q, k, ones, dropout=0.5, seed=seed), y)


def test_memory_beside_operands_and_results_does_not_grow_with_the_length():
    q = np.ones((1, 8, 64, 64), np.float32)
    attention_jvp(q, q, q, q, q, q, causal=True)
    peaks = {}
    for length in (1024, 8192):
        q = np.zeros((1, 1, length, 64), np.float32)
        tracemalloc.start()
        y, dy = attention_jvp(q, q, q, q, q, q, causal=True)
        peaks[length] = tracemalloc.get_traced_memory()[1] - y.nbytes - dy.nbytes
        tracemalloc.stop()
    # Less than a twentieth of one matrix of scores of 2,048 queries and eight heads.
    assert peaks[8192] < 8 * 2048**2 * 4 / 20
    # The dictionaries and lists of the binding, beside the scratch memory.
    assert peaks[8192] < peaks[1024] + 65536
