"""Rotary and positional embeddings on a GPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import leading
from fgnumba.kernels.ops.positional_embedding import cuda as positional_embedding
from fgnumba.kernels.ops.rotary import cuda as rotary
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER, RANK1
from fgnumba.kernels.shared.product.product import Weights
from tests import tolerances_positions as tolerances
from tests.references import reference

SEED, STEP, FIRST, NUMBER = 0x123456789ABCDEF0, 77, 3, 4
KINDS = {RANK1: "rank1", RADEMACHER: "rademacher", GAUSSIAN: "gaussian"}

SHAPES = [(1, 1, 1, 1), (3, 5, 7, 37), (2, 11, 13, 67)]
"""Batch, length, rows of the table, channels."""


class Sequences:
    """Sequences (blocks, B, L, C) by position on a GPU, with NaN in the padding."""

    def __init__(self, gpu, values, has_tangent=None):
        self.shape = values.shape
        blocks, batch, length, channels = values.shape
        memory = np.full((blocks, batch * length, leading(channels)), np.nan)
        memory[..., :channels] = values.reshape(blocks, -1, channels)
        self.array = gpu.array(memory, np.float32)
        has_tangent = blocks > 1 if has_tangent is None else has_tangent
        self.images = Images.of_batch(self.array, (length, channels), has_tangent, by_position=True)

    def values(self):
        found, channels = self.array.download(), self.shape[-1]
        assert np.isnan(found[..., channels:]).all()
        return found[..., :channels].reshape(self.shape)


def embedded(gpu, dual, weight, kind, count, v=None):
    """Return the sequences (1 + T, B, L, C) that the positional embedding writes."""
    x, y = Sequences(gpu, dual), Sequences(gpu, np.full((1 + count, *dual.shape[1:]), np.nan))
    weights = Weights(
        gpu.packed(weight),
        gpu.zeros((32,)),
        kind=kind,
        count=count,
        first=FIRST,
        parameter=NUMBER,
        stream=gpu.stream(SEED, STEP),
        v=None if v is None else gpu.stacked(v),
    )
    batch = dual.shape[1]
    gpu.run(positional_embedding.bind(None, 1, batch=batch, x=x.images, y=y.images, weights=weights))
    return y.values()


def case(batch, length, rows, channels, blocks=1):
    rng = np.random.default_rng(channels)
    dual = rng.standard_normal((blocks, batch, length, channels)).astype(np.float32)
    return rng, dual, rng.standard_normal((rows, channels)).astype(np.float32)


@pytest.mark.parametrize("has_tangent", [False, True])
@pytest.mark.parametrize(("batch", "length", "rows", "channels"), SHAPES)
def test_explicit_directions(gpu, batch, length, rows, channels, has_tangent):
    rng, dual, weight = case(batch, length, rows, channels, 1 + 2 * has_tangent)
    v = rng.standard_normal((2, rows, channels)).astype(np.float32)
    found = embedded(gpu, dual, weight, EXPLICIT, 2, v)
    moved = np.broadcast_to(v[:, None, :length], (2, batch, length, channels)).astype(np.float64)
    expected = [dual[0] + weight[:length].astype(np.float64), *(moved + dual[1:] if has_tangent else moved)]
    tolerances.ADDED.check(found, np.array(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_directions_that_are_drawn(gpu, kind):
    _, dual, weight = case(2, 9, 11, 37, blocks=3)
    found = embedded(gpu, dual, weight, kind, 2)
    v = [reference.direction(KINDS[kind], weight.shape, FIRST + t, NUMBER, STEP, SEED)[:9] for t in range(2)]
    within = tolerances.ADDED_GAUSSIAN if kind == GAUSSIAN else tolerances.ADDED
    within.check(found[1:], dual[1:] + np.array(v)[:, None])


def test_without_directions_the_tangent_passes(gpu):
    _, dual, weight = case(2, 3, 5, 7, 2)
    found = embedded(gpu, dual, weight, NONE, 1)
    np.testing.assert_array_equal(found[0], dual[0] + weight[:3])
    np.testing.assert_array_equal(found[1], dual[1])


def turned(x, heads, base, inverse=False):
    """Return the sequences with each pair, as a complex number, multiplied by exp(i φ)."""
    length, channels = x.shape[-2:]
    size = channels // heads
    pairs = x.astype(np.float64).reshape(*x.shape[:-1], heads, 2, size // 2)
    numbers = pairs[..., 0, :] + 1j * pairs[..., 1, :]
    angles = np.arange(length)[:, None, None] * base ** (-2 * np.arange(size // 2) / size)
    numbers = numbers * np.exp((-1j if inverse else 1j) * angles)
    return np.stack([numbers.real, numbers.imag], -2).reshape(x.shape)


@pytest.mark.parametrize(("in_place", "inverse"), [(False, False), (True, True)])
@pytest.mark.parametrize(
    ("blocks", "batch", "length", "heads", "size"), [(1, 1, 1, 1, 2), (3, 2, 5, 3, 10), (2, 3, 7, 1, 66)]
)
def test_pairs_are_turned(gpu, blocks, batch, length, heads, size, in_place, inverse):
    dual = np.random.default_rng(size).standard_normal((blocks, batch, length, heads * size))
    dual = dual.astype(np.float32)
    x = Sequences(gpu, dual)
    y = x if in_place else Sequences(gpu, np.full(dual.shape, np.nan))
    options = {"batch": batch, "count": blocks - 1, "heads": heads, "base": 100.0, "inverse": inverse}
    gpu.run(rotary.bind(None, 1, x=x.images, y=y.images, **options))
    tolerances.TURNED.check(y.values(), turned(dual, heads, 100.0, inverse))


def test_some_columns_are_turned_in_place(gpu):
    dual = np.random.default_rng(1).standard_normal((2, 2, 3, 20)).astype(np.float32)
    x = Sequences(gpu, dual)
    some = x.images.channels_from(5, 12)
    gpu.run(rotary.bind(None, 1, batch=2, count=1, x=some, y=some, heads=2, base=10000.0))
    expected = dual.astype(np.float64)
    expected[..., 5:17] = turned(dual[..., 5:17], 2, 10000.0)
    tolerances.TURNED.check(x.values(), expected)


def test_a_symbolic_zero_is_left_alone(gpu):
    x = Sequences(gpu, np.ones((2, 1, 3, 4)), has_tangent=False)
    y = Sequences(gpu, np.full((2, 1, 3, 4), np.nan))
    gpu.run(rotary.bind(None, 1, batch=1, count=1, x=x.images, y=y.images, heads=2, base=10000.0))
    assert np.isfinite(y.values()[0]).all()
    assert np.isnan(y.values()[1]).all()
