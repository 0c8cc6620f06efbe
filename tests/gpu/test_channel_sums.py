"""Sums over pixels and examples on a GPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.ops.channel_sums import cuda as channel_sums
from tests import tolerances


# One channel and a block for it, a few, more than a warp has lanes; one block of pixels, and several.
@pytest.mark.parametrize(
    ("batch", "shape"), [(1, (1, 1, 1)), (3, (7, 11, 1)), (2, (4, 8, 33)), (5, (6, 5, 5)), (131, (1, 1, 33))]
)
@pytest.mark.parametrize("onto", [False, True])
def test_sums_by_channel(gpu, batch, shape, onto):
    rng = np.random.default_rng(batch)
    x, delta = rng.standard_normal((2, 1, batch, *shape))
    channels = shape[-1]
    old = rng.standard_normal((2, channels + 3))
    scale, shift = (gpu.array(values, np.float32) for values in old)
    arguments = {"scale": scale, "shift": shift, "onto": onto}
    gpu.run(channel_sums.bind(1, batch=batch, x=gpu.images(x), delta=gpu.images(delta), **arguments))
    sums = [np.sum(delta * x, axis=(0, 1, 2, 3)), np.sum(delta, axis=(0, 1, 2, 3))]
    for found, before, total in zip((scale, shift), old, sums, strict=True):
        expected = total + onto * before[:channels]
        tolerances.sums(delta[..., 0].size).check(found.download()[:channels], expected)
        np.testing.assert_array_equal(found.download()[channels:], np.float32(before[channels:]))


def test_some_of_the_channels(gpu):
    x, delta = np.random.default_rng(0).standard_normal((2, 1, 2, 4, 5, 10))
    scale, shift = gpu.nans(3), gpu.nans(3)
    arguments = {"scale": scale, "shift": shift, "onto": False}
    operands = {"x": gpu.images(x).channels_from(4, 3), "delta": gpu.images(delta).channels_from(7, 3)}
    gpu.run(channel_sums.bind(1, batch=2, **operands, **arguments))
    expected = np.sum(delta[..., 7:] * x[..., 4:7], axis=(0, 1, 2, 3))
    tolerances.sums(40).check(scale.download(), expected)
    tolerances.sums(40).check(shift.download(), delta[..., 7:].sum(axis=(0, 1, 2, 3)))
