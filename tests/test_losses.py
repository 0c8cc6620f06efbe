"""Losses against float64: values, directional derivatives, extremes, impossible targets."""

import numpy as np
import pytest
from scipy import special

from fgnumba.kernels.loss import RESULT
from fgnumba.kernels.mean_squared_error import cpu as mean_squared_error
from fgnumba.kernels.memory import aligned
from fgnumba.kernels.program import Program
from fgnumba.kernels.softmax_cross_entropy import cpu as softmax_cross_entropy
from tests import tolerances

SHAPES = [(1, 1), (1, 2), (2, 1), (7, 3), (64, 10), (61, 31), (3, 33), (5, 1000), (100, 101)]


def dual(batch, width, count, scale=1.0, seed=0):
    """Return a dual buffer whose padding is NaN: nobody may read it."""
    rng = np.random.default_rng(seed)
    z = aligned((1 + count, batch, width + 5))
    z[...] = np.nan
    z[:, :, :width] = rng.standard_normal((1 + count, batch, width))
    z[0] *= scale
    return z


def run(bind, z, width, targets, threads=1):
    result, values = np.zeros(1, RESULT), np.zeros(len(z))
    named = {"classes": width} if bind is softmax_cross_entropy.bind else {"width": width}
    Program(bind(threads, z=z, **named, targets=targets, result=result, values=values)).run()
    return values, bool(result["finite"][0])


def cross_entropy(z, width, y):
    z = z[:, :, :width].astype(np.float64)
    rows = np.arange(len(y))
    losses = special.logsumexp(z[0], axis=1) - z[0][rows, y]
    p = special.softmax(z[0], axis=1)
    p[rows, y] -= 1
    return np.concatenate([[losses.mean()], (p * z[1:]).sum(axis=2).mean(axis=1)])


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize(("batch", "width"), SHAPES)
def test_softmax_cross_entropy(batch, width, scale, count):
    z = dual(batch, width, count, scale)
    y = np.random.default_rng(1).integers(0, width, batch)
    values, finite = run(softmax_cross_entropy.bind, z, width, y)
    assert finite
    tolerances.LOSS.check(values, cross_entropy(z, width, y))


@pytest.mark.parametrize("width", [2, 10, 33])
def test_softmax_cross_entropy_of_huge_logits(width):
    rng = np.random.default_rng(2)
    z = dual(50, width, 2)
    z[0, :, :width] = rng.choice([-1e4, 0.0, 1e4], (50, width))
    y = rng.integers(0, width, 50)
    values, finite = run(softmax_cross_entropy.bind, z, width, y)
    assert finite
    tolerances.LOSS_OF_HUGE_LOGITS.check(values, cross_entropy(z, width, y))


def test_softmax_cross_entropy_of_certain_examples_keeps_relative_accuracy():
    z = dual(1, 2, 1)
    z[0, 0, :2] = [15.0, 0.0]
    values, _ = run(softmax_cross_entropy.bind, z, 2, np.array([0]))
    expected = cross_entropy(z, 2, np.array([0]))
    # The loss has an absolute accuracy; its derivative does not cancel.
    tolerances.LOSS_OF_CERTAIN_EXAMPLES.check(values[0], expected[0])
    tolerances.CARRIED.check(values[1], expected[1])


@pytest.mark.parametrize("target", [-1, 10, 2**40, -(2**63)])
def test_impossible_targets_are_never_finite(target):
    z = dual(4, 10, 1)
    values, finite = run(softmax_cross_entropy.bind, z, 10, np.array([0, target, 3, 9]))
    assert not finite
    assert np.isnan(values).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_reported(bad):
    z = dual(4, 10, 1)
    z[0, 2, 5] = bad
    _, finite = run(softmax_cross_entropy.bind, z, 10, np.zeros(4, np.int64))
    assert not finite
    z = dual(4, 10, 1)
    z[1, 2, 5] = bad
    _, finite = run(softmax_cross_entropy.bind, z, 10, np.zeros(4, np.int64))
    assert not finite


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize(("batch", "width"), SHAPES)
def test_mean_squared_error(batch, width, count):
    z = dual(batch, width, count)
    y = np.random.default_rng(1).standard_normal((batch, width)).astype(np.float32)
    values, finite = run(mean_squared_error.bind, z, width, y)
    difference = z[0, :, :width].astype(np.float64) - y
    derivatives = (2 * difference * z[1:, :, :width]).mean(axis=(1, 2))
    assert finite
    tolerances.SAME_LOSS.check(values[0], np.mean(difference**2))
    tolerances.LOSS.check(values[1:], derivatives)


@pytest.mark.parametrize("bind", [softmax_cross_entropy.bind, mean_squared_error.bind])
def test_losses_do_not_depend_on_threads(bind):
    z = dual(101, 700, 2)
    y = np.arange(101) if bind is softmax_cross_entropy.bind else np.ones((101, 700), np.float32)
    one, _ = run(bind, z, 700, y, threads=1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(run(bind, z, 700, y, threads=threads)[0], one)
