"""Dropout on a GPU: the masks are those of Philox, computed by a second implementation."""

import numpy as np
import pytest

from fgnumba.kernels.ops.dropout import cuda as dropout
from tests.references.reference import MASK, philox

SEED, STEP, LAYER, DROPPED = 0xFEDCBA9876543210, 123456, 5, 4


def factors(batch, shape, rate):
    """Return what (B, H, W, C) is multiplied by."""
    height, row = shape[0], shape[1] * shape[2]
    kept = np.empty((batch, height, row))
    for i in range(batch):
        for h in range(height):
            for j in range(row):
                counter = h * (-(-row // 64) * 16) + j // 4, DROPPED << 24 | i, LAYER, STEP
                kept[i, h, j] = philox(counter, (SEED & MASK, SEED >> 32))[j % 4] >= rate * 2**32
    return np.float32(kept.reshape(batch, *shape)) * np.float32(1 / (1 - rate))


def run(gpu, x, y, batch, count, rate):
    stream = gpu.stream(SEED, STEP)
    arguments = {"layer": LAYER, "rate": rate, "stream": stream}
    gpu.run(dropout.bind(None, batch=batch, images_a_part=0, count=count, x=x, y=y, **arguments))


# Rows of a multiple of four elements and others, of more than the 64 that counters are rounded up to.
@pytest.mark.parametrize(
    ("batch", "shape"), [(1, (1, 1, 1)), (3, (2, 5, 3)), (2, (3, 6, 12)), (2, (1, 1, 131)), (5, (3, 1, 64))]
)
@pytest.mark.parametrize("count", [0, 2])
def test_masks_are_those_of_philox(gpu, batch, shape, count):
    x = np.random.default_rng(1).standard_normal((1 + count, batch, *shape)).astype(np.float32)
    y = gpu.images(shape=shape, blocks=1 + count, batch=batch)
    run(gpu, gpu.images(x), y, batch, count, 0.375)
    np.testing.assert_array_equal(gpu.values(y), x * factors(batch, shape, 0.375))


@pytest.mark.parametrize(("first", "channels"), [(1, 12), (4, 12), (8, 9)])
def test_some_elements_of_a_vector_in_place(gpu, first, channels):
    x = np.random.default_rng(2).standard_normal((2, 3, 1, 1, 24)).astype(np.float32)
    images = gpu.images(x)
    some = images.channels_from(first, channels)
    run(gpu, some, some, 3, 1, 0.5)
    x[..., first : first + channels] *= factors(3, (1, 1, channels), 0.5)
    np.testing.assert_array_equal(gpu.values(images), x)


def test_an_input_without_a_tangent(gpu):
    x = np.ones((1, 2, 1, 2, 3), np.float32)
    y = gpu.images(shape=(1, 2, 3), batch=2)
    run(gpu, gpu.images(x, has_tangent=False), y, 2, 3, 0.25)
    np.testing.assert_array_equal(gpu.values(y), factors(2, (1, 2, 3), 0.25)[None])
