"""Losses on a GPU against float64: values, directional derivatives, extremes, impossible targets, residuals."""

import numpy as np
import pytest
from scipy import special

from fgnumba.kernels.ops.mean_squared_error import cuda as mean_squared_error
from fgnumba.kernels.ops.softmax_cross_entropy import cuda as softmax_cross_entropy
from fgnumba.kernels.shared.loss import RESULT
from tests import loss_cases, tolerances

# More than a block of eight warps, rows longer than a warp, one of each.
SHAPES = [(1, 1), (1, 2), (2, 1), (7, 3), (19, 10), (9, 31), (3, 33), (8, 67)]


def dual(batch, width, count, scale=1.0):
    """Return a dual buffer whose padding is NaN: nobody may read it."""
    rng = np.random.default_rng(0)
    z = np.full((1 + count, batch, width + 5), np.nan, np.float32)
    z[:, :, :width] = rng.standard_normal((1 + count, batch, width))
    z[0] *= scale
    return z


def run(gpu, module, z, width, targets):
    """Return the loss and its derivatives, and whether they are finite."""
    result, values = gpu.zeros((1,), RESULT), gpu.array(np.full(len(z), np.nan))
    named = {"classes" if module is softmax_cross_entropy else "width": width}
    operations = module.bind(
        1, z=gpu.array(z), **named, targets=gpu.array(targets), result=result, values=values
    )
    gpu.run(*operations)
    return values.download(), bool(result.download()["finite"][0])


def cross_entropy(z, width, y):
    z = z[:, :, :width].astype(np.float64)
    rows = np.arange(len(y))
    losses = special.logsumexp(z[0], axis=1) - z[0][rows, y]
    p = special.softmax(z[0], axis=1)
    p[rows, y] -= 1
    return np.concatenate([[losses.mean()], (p * z[1:]).sum(axis=2).mean(axis=1)])


@pytest.mark.parametrize("count", [0, 1, 3, 6])
@pytest.mark.parametrize(("batch", "width"), SHAPES)
def test_softmax_cross_entropy(gpu, batch, width, count):
    z = dual(batch, width, count, scale=3.0)
    y = np.random.default_rng(1).integers(0, width, batch)
    values, finite = run(gpu, softmax_cross_entropy, z, width, y)
    assert finite
    tolerances.LOSS.check(values, cross_entropy(z, width, y))


def test_huge_logits_do_not_overflow(gpu):
    rng = np.random.default_rng(2)
    z = dual(20, 33, 2)
    z[0, :, :33] = rng.choice([-1e4, 0.0, 1e4], (20, 33))
    y = rng.integers(0, 33, 20)
    values, finite = run(gpu, softmax_cross_entropy, z, 33, y)
    assert finite
    tolerances.LOSS_OF_HUGE_LOGITS.check(values, cross_entropy(z, 33, y))


def test_certain_examples_keep_relative_accuracy(gpu):
    z = dual(1, 2, 1)
    z[0, 0, :2] = [15.0, 0.0]
    values, _ = run(gpu, softmax_cross_entropy, z, 2, np.array([0]))
    expected = cross_entropy(z, 2, np.array([0]))
    # The loss has an absolute accuracy; its derivative does not cancel.
    tolerances.LOSS_OF_CERTAIN_EXAMPLES.check(values[0], expected[0])
    tolerances.CARRIED.check(values[1], expected[1])


@pytest.mark.parametrize("target", [-1, 10, 2**40, -(2**63)])
def test_impossible_targets_are_never_finite(gpu, target):
    # Here the padding is finite: what lies behind the classes is no logit.
    z = np.nan_to_num(dual(4, 10, 5))
    values, finite = run(gpu, softmax_cross_entropy, z, 10, np.array([0, target, 3, 9]))
    assert not finite
    assert np.isnan(values).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("block", [0, 1, 5])
@pytest.mark.parametrize("module", [softmax_cross_entropy, mean_squared_error])
def test_what_is_not_finite_is_reported(gpu, module, block, bad):
    z = dual(4, 10, 5)
    z[block, 2, 5] = bad
    targets = np.zeros(4, np.int64) if module is softmax_cross_entropy else np.zeros((4, 10), np.float32)
    assert not run(gpu, module, z, 10, targets)[1]


@pytest.mark.parametrize("count", [0, 1, 3, 6])
@pytest.mark.parametrize(("batch", "width"), SHAPES)
def test_mean_squared_error(gpu, batch, width, count):
    z = dual(batch, width, count)
    y = np.random.default_rng(1).standard_normal((batch, width)).astype(np.float32)
    values, finite = run(gpu, mean_squared_error, z, width, y)
    difference = z[0, :, :width].astype(np.float64) - y
    assert finite
    tolerances.SAME_LOSS.check(values[0], np.mean(difference**2))
    derivatives = (2 * difference * z[1:, :, :width]).mean(axis=(1, 2))
    tolerances.LOSS.check(values[1:], derivatives)


def test_the_mean_of_many_examples(gpu):
    # More examples than a block has threads.
    z, y = dual(261, 1, 1), np.zeros((261, 1), np.float32)
    values, _ = run(gpu, mean_squared_error, z, 1, y)
    exact = z[:, :, 0].astype(np.float64)
    # One rounding to float32 an example.
    tolerances.SAME_LOSS.check(values, [np.mean(exact[0] ** 2), np.mean(2 * exact[0] * exact[1])])


@pytest.mark.parametrize(("batch", "width"), SHAPES)
def test_residuals(gpu, batch, width):
    rng = np.random.default_rng(3)
    z = np.full((batch, width + 3), np.nan, np.float32)
    z[:, :width] = 3 * rng.standard_normal((batch, width))
    exact, y = z[:, :width].astype(np.float64), rng.integers(0, width, batch)
    e = gpu.nans(batch, width)
    gpu.run(softmax_cross_entropy.bind_residual(1, z=gpu.array(z), targets=gpu.array(y), residual=e))
    expected = special.softmax(exact, axis=1)
    expected[np.arange(batch), y] -= 1
    tolerances.RESIDUAL.check(e.download(), expected)
    targets = rng.standard_normal((batch, width)).astype(np.float32)
    e = gpu.nans(batch, width)
    gpu.run(mean_squared_error.bind_residual(1, z=gpu.array(z), targets=gpu.array(targets), residual=e))
    tolerances.SQUARED_RESIDUAL.check(e.download(), 2 * (exact - targets) / width)


def test_residuals_of_impossible_targets_are_nan(gpu):
    z = gpu.array(np.zeros((3, 37)), np.float32)
    e = gpu.zeros((3, 37))
    targets = gpu.array(np.array([0, 37, -1]))
    gpu.run(softmax_cross_entropy.bind_residual(1, z=z, targets=targets, residual=e))
    found = e.download()
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1:]).all()


def test_the_residual_of_a_certain_example_does_not_cancel(gpu):
    z = np.array([[20.0, 0.0, 1.0]], np.float32)
    e = gpu.nans(1, 3)
    targets = gpu.array(np.array([0]))
    gpu.run(softmax_cross_entropy.bind_residual(1, z=gpu.array(z), targets=targets, residual=e))
    expected = special.softmax(z.astype(np.float64), axis=1)[0]
    expected[0] = -expected[1:].sum()
    tolerances.CARRIED.check(e.download()[0], expected)


@pytest.mark.parametrize("kind", loss_cases.LOGITS)
def test_extreme_logits_are_what_float64_says(gpu, kind):
    logits = np.array(loss_cases.LOGITS[kind], np.float32)
    classes = len(logits)
    z, y = dual(classes, classes, 1), np.arange(classes)
    z[0, :, :classes] = logits
    e = gpu.nans(classes, classes)
    for target in y:
        values, finite = run(
            gpu, softmax_cross_entropy, z[:, target : target + 1], classes, y[target : target + 1]
        )
        loss, derivative, _ = loss_cases.cross_entropy(logits, z[1, target, :classes], target)
        tolerances.LOSS_OF_HUGE_LOGITS.check(values, [loss, derivative], f"target {target}")
        assert finite == (abs(loss) <= loss_cases.MOST)
    gpu.run(softmax_cross_entropy.bind_residual(1, z=gpu.array(z[0]), targets=gpu.array(y), residual=e))
    expected = [loss_cases.cross_entropy(logits, np.zeros(classes), target)[2] for target in y]
    tolerances.RESIDUAL.check(e.download(), expected)


@pytest.mark.parametrize("size", [1e19, 1e25, 1e37])
def test_squared_errors_of_any_size(gpu, size):
    z = dual(3, 35, 2, size)
    y = (size * np.random.default_rng(1).standard_normal((3, 35))).astype(np.float32)
    values, finite = run(gpu, mean_squared_error, z, 35, y)
    loss, derivatives, _ = loss_cases.squared(z[0, :, :35], z[1:, :, :35], y)
    tolerances.SAME_LOSS.check(values[0], loss)
    tolerances.Within(absolute=tolerances.LOSS.absolute * size).check(values[1:], derivatives)
    assert finite == (loss <= loss_cases.MOST)
