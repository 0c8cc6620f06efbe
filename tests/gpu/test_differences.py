"""Finite differences on a GPU: stored losses, entries moved there and back, differences, and their gradient."""

import numpy as np
import pytest

from fgnumba.kernels.ops.differences import cuda as differences
from fgnumba.kernels.shared.loss import RESULT
from tests import tolerances


def test_a_loss_is_kept(gpu):
    out = gpu.array(np.arange(5.0))
    gpu.run(differences.bind_keep(gpu.array(np.array([7.5, 1.0])), out, 3))
    np.testing.assert_array_equal(out.download(), [0, 1, 2, 7.5, 4])


def test_an_entry_goes_forth_and_back_and_returns(gpu):
    theta = np.array([1.0, 2.0, 3.0], np.float32)
    array, saved = gpu.array(theta), gpu.zeros((2,))
    places = gpu.array(np.array([array.address + 8, array.address + 4]))
    for side, moved in ((differences.FORTH, 2.25), (differences.BACK, 1.75), (differences.RETURN, 2.0)):
        gpu.run(differences.bind_nudge(places, saved, 1, side, 0.25))
        np.testing.assert_array_equal(array.download(), [1.0, moved, 3.0])
    np.testing.assert_array_equal(saved.download(), [0.0, 2.0])


@pytest.mark.parametrize("count", [1, 3, 300])
def test_central_differences(gpu, count):
    losses = np.random.default_rng(0).standard_normal((count, 2))
    values, weighted = (gpu.array(np.full(1 + count, np.nan)) for _ in range(2))
    result = gpu.zeros((1,), RESULT)
    taken = gpu.array(losses.ravel())
    gpu.run(differences.bind_central(taken, 0.125, values, result, weighted, 0.3))
    derivatives = (losses[:, 0] - losses[:, 1]) / 0.25
    tolerances.EXACT_MEAN.check(values.download(), [losses.mean(), *derivatives])
    tolerances.EXACT_MEAN.check(weighted.download(), [losses.mean(), *(0.3 * derivatives)])
    assert result.download()["finite"][0] == 1
    losses[count // 2, 1] = np.nan
    taken.upload(losses.ravel())
    gpu.run(differences.bind_central(taken, 0.125, values, result, weighted, 0.3))
    assert result.download()["finite"][0] == 0


def test_a_mean_that_overflows_is_not_finite(gpu):
    # Their difference is 0, their sum infinite.
    losses, result = gpu.array(np.full(2, 1.5e308)), gpu.array(np.ones(1, RESULT))
    values, weighted = gpu.zeros((2,), np.float64), gpu.zeros((2,), np.float64)
    gpu.run(differences.bind_central(losses, 0.5, values, result, weighted, 1.0))
    assert values.download()[1] == 0
    assert result.download()["finite"][0] == 0


@pytest.mark.parametrize("finite", [0, 1])
def test_differences_are_scattered(gpu, finite):
    rng = np.random.default_rng(0)
    before = rng.standard_normal(600).astype(np.float32)
    gradient = gpu.array(before)
    chosen, d = rng.permutation(600)[:300], rng.standard_normal(300)
    places = gpu.array(gradient.address + 4 * chosen)
    result = gpu.array(np.full(1, finite, RESULT))
    gpu.run(differences.bind_scatter(places, gpu.array(d), 2.5, result))
    expected = before.copy()
    expected[chosen] += (finite * 2.5 * d).astype(np.float32)
    np.testing.assert_array_equal(gradient.download(), expected)
