"""Pooling on a GPU against float64."""

from types import SimpleNamespace

import numpy as np
import pytest

from fgnumba.kernels.layout.images import NO_BORDER, Border
from fgnumba.kernels.ops.avg_pool2d import cuda as avg_pool2d
from fgnumba.kernels.ops.max_pool2d import cuda as max_pool2d
from fgnumba.kernels.shared.windows import cuda as windows
from tests import tolerances
from tests.references.graph_reference import pooled

POOLS = {"max": max_pool2d, "average": avg_pool2d}

# Batch, image, window, stride, padding (top, bottom, left, right).
CASES = [
    (1, (1, 1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
    (3, (5, 7, 5), (2, 3), (2, 3), (0, 0, 0, 0)),
    (2, (6, 5, 33), (3, 2), (2, 1), (1, 1, 0, 1)),
    (2, (4, 6, 3), (3, 3), (3, 4), (2, 0, 1, 2)),
    (2, (5, 4, 7), (5, 4), (5, 4), (0, 0, 0, 0)),
]


def arrays(batch, shape, blocks, seed=0):
    # Halves of whole numbers: float32 holds them and their sums exactly, and some are equal.
    return np.random.default_rng(seed).integers(-9, 9, (blocks, batch, *shape)) / 2


def expected(values, window, stride, padding, kind):
    layer = SimpleNamespace(pool_size=window, stride=stride, padding=padding)
    # Without tangents the primal stands in for one.
    y, dy = pooled((values[0], values[1:] if len(values) > 1 else values), layer, kind == "max")
    return np.concatenate([y[None], dy])[: len(values)]


def run(gpu, kind, x, out, batch, count, window, stride, padding):
    y = gpu.images(shape=out[2:], blocks=out[0], batch=batch)
    arguments = {"window": window, "stride": stride, "padding": Border(*padding)}
    gpu.run(POOLS[kind].bind(batch=batch, images_a_part=0, count=count, x=x, y=y, **arguments))
    return gpu.values(y)


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize(("batch", "shape", "window", "stride", "padding"), CASES)
def test_pooling_and_its_tangents(gpu, kind, batch, shape, window, stride, padding):
    values = arrays(batch, shape, 3)
    found = expected(values, window, stride, padding, kind)
    y = run(gpu, kind, gpu.images(values), found.shape, batch, 2, window, stride, padding)
    tolerances.POOLED.check(y, found)


@pytest.mark.parametrize("kind", POOLS)
def test_an_input_without_a_tangent(gpu, kind):
    values = arrays(2, (4, 4, 3), 1)
    found = expected(values, (2, 2), (2, 2), (0, 0, 0, 0), kind)
    x = gpu.images(values, has_tangent=False)
    tolerances.POOLED.check(run(gpu, kind, x, found.shape, 2, 2, (2, 2), (2, 2), NO_BORDER), found)


@pytest.mark.parametrize("kind", POOLS)
def test_some_of_the_channels(gpu, kind):
    values = arrays(2, (5, 3, 8), 2)
    found = expected(values[..., 3:5], (2, 2), (1, 1), (0, 0, 0, 0), kind)
    x = gpu.images(values).channels_from(3, 2)
    tolerances.POOLED.check(run(gpu, kind, x, found.shape, 2, 1, (2, 2), (1, 1), NO_BORDER), found)


def test_more_tangents_than_blocks_along_the_grid(gpu, monkeypatch):
    monkeypatch.setattr(windows, "MAX_BLOCKS_YZ", 2)
    values = arrays(2, (3, 3, 5), 6)
    found = expected(values, (3, 3), (3, 3), (0, 0, 0, 0), "average")
    y = run(gpu, "average", gpu.images(values), found.shape, 2, 5, (3, 3), (3, 3), NO_BORDER)
    tolerances.POOLED.check(y, found)


def test_the_first_maximum_and_a_nan_before_any_number(gpu):
    nan, low = np.nan, -np.inf
    x = np.array([[1, 3, 3, 2], [low, low, low, low], [5, nan, 9, nan], [0.0, -0.0, -1, 0.0]])
    dx = np.arange(16).reshape(4, 4)
    values = np.stack([x, dx]).reshape(2, 4, 2, 2, 1)
    y = run(gpu, "max", gpu.images(values), (2, 4, 1, 1, 1), 4, 1, (2, 2), (2, 2), NO_BORDER)
    np.testing.assert_array_equal(y[0].ravel(), [3, low, nan, 0])
    np.testing.assert_array_equal(y[1].ravel(), [1, 4, 9, 12])


@pytest.mark.parametrize("size", [1.0, 3e38])
def test_means_neither_overflow_nor_lose(gpu, size):
    x = (size * (1 - 1e-3 * np.random.default_rng(3).random((2, 1, 3, 35, 2)))).astype(np.float32)
    x = x.astype(np.float64)
    y = run(gpu, "average", gpu.images(x), (2, 1, 1, 1, 2), 1, 1, (3, 35), (3, 35), (0, 0, 0, 0))
    error = y / x.mean(axis=(2, 3), keepdims=True) - 1
    tolerances.AVERAGED.check(error, np.zeros_like(error))
