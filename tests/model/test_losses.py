"""Losses against float64: values, directional derivatives, extremes, impossible targets."""

import warnings
from typing import Any

import numpy as np
import pytest
from scipy import special

import fgnumba as fg
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.mean_squared_error import cpu as mean_squared_error
from fgnumba.kernels.ops.softmax_cross_entropy import cpu as softmax_cross_entropy
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.testing import check_loss
from tests import loss_cases, tolerances
from tests.state_machine.own_loss import Scaled

SHAPES = [(5, 1000), (100, 101)]
"""Larger than those that `check_loss` takes differences of."""


def smoothed(z, y, smoothing=0.25):
    q = np.full(z.shape, smoothing / z.shape[1])
    q[np.arange(len(y)), y] += 1 - smoothing
    return float(np.mean(special.logsumexp(z, axis=1) - (q * z).sum(axis=1)))


LOSSES: dict[str, tuple[fg.losses.Loss, Any]] = {
    "cross-entropy": (
        fg.SoftmaxCrossEntropy(),
        lambda z, y: float(np.mean(special.logsumexp(z, axis=1) - z[np.arange(len(y)), y])),
    ),
    "squared": (fg.MeanSquaredError(), lambda z, y: float(np.mean((z - y) ** 2))),
    "smoothed": (fg.SoftmaxCrossEntropy(label_smoothing=0.25), smoothed),
    "binary": (fg.BinaryCrossEntropy(), lambda z, y: float(np.mean(np.logaddexp(0, z) - y * z))),
    "huber": (fg.Huber(delta=0.7), lambda z, y: float(np.mean(special.huber(0.7, z - y)))),
    "scaled": (Scaled(3.0), lambda z, y: 3 * float(np.mean((z - y) ** 2))),
}


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_passes_its_check(name, scale):
    loss, reference = LOSSES[name]
    targets = labels if name == "binary" else None
    check_loss(
        loss,
        targets,
        reference,
        scale=scale,
        tolerance=tolerances.CHECKED_LOSS,
        outputs=(1, 2, 3, 10, 33),
    )
    check_loss(loss, targets, scale=scale, tolerance=tolerances.CHECKED_LOSS)


def labels(rng, batch, width):
    """Return labels of 0 and 1, and some between."""
    return np.clip(2 * rng.random((batch, width)) - 0.5, 0, 1)


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


def residual_of(bind, z, targets):
    e = aligned(z.shape)
    Program([bind(1, z=z, targets=targets, residual=e)], 1).run()
    return e


@pytest.mark.parametrize("kind", loss_cases.LOGITS)
def test_extreme_logits_are_what_float64_says(kind):
    logits = np.array(loss_cases.LOGITS[kind], np.float32)
    z = dual(1, len(logits), 1)
    z[0, 0, : len(logits)] = logits
    for target in range(len(logits)):
        values, finite = run(softmax_cross_entropy.bind, z, len(logits), np.array([target]))
        loss, derivative, residual = loss_cases.cross_entropy(logits, z[1, 0, : len(logits)], target)
        tolerances.LOSS_OF_HUGE_LOGITS.check(values, [loss, derivative], f"target {target}")
        # A loss beyond float32 is told, and is no loss to train with.
        assert finite == (abs(loss) <= loss_cases.MOST)
        found = residual_of(
            softmax_cross_entropy.bind_residual, np.ascontiguousarray(logits[None]), np.array([target])
        )
        tolerances.RESIDUAL.check(found[0], residual)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            own = fg.SoftmaxCrossEntropy().value(logits[None], np.array([target]))
        tolerances.LOSS_OF_HUGE_LOGITS.check(values[0], own)


@pytest.mark.parametrize("classes", [1, 2, 31, 1009, 300_007])
def test_equal_logits_cost_the_logarithm_of_the_classes(classes):
    z = dual(1, classes, 1)
    z[0, 0, :classes] = 2.5
    values, _ = run(softmax_cross_entropy.bind, z, classes, np.array([classes // 2]))
    expected = loss_cases.cross_entropy(z[0, 0, :classes], z[1, 0, :classes], classes // 2)
    tolerances.LOSS_OF_HUGE_LOGITS.check(values, expected[:2])
    e = residual_of(
        softmax_cross_entropy.bind_residual, np.ascontiguousarray(z[0, :, :classes]), np.array([classes // 2])
    )
    tolerances.RESIDUAL.check(e[0], expected[2])
    tolerances.RESIDUAL_SUM.check(e.sum(dtype=np.float64), 0)


def test_residuals_of_many_classes_keep_their_sums():
    rng, classes = np.random.default_rng(5), 200_003
    z = rng.standard_normal((1, classes)).astype(np.float32)
    e = residual_of(softmax_cross_entropy.bind_residual, z, np.array([3]))
    expected = loss_cases.cross_entropy(z[0], z[0], 3)[2]
    tolerances.RESIDUAL.check(e[0], expected)
    tolerances.RESIDUAL_SUM.check(e.sum(dtype=np.float64), 0)


def test_one_class_is_certain():
    z = dual(5, 1, 2)
    values, finite = run(softmax_cross_entropy.bind, z, 1, np.zeros(5, np.int64))
    assert finite
    np.testing.assert_array_equal(values, 0)
    e = residual_of(
        softmax_cross_entropy.bind_residual, np.ascontiguousarray(z[0, :, :1]), np.zeros(5, np.int64)
    )
    np.testing.assert_array_equal(e, 0)


@pytest.mark.parametrize("size", [1e-15, 1e19, 1e25, 1e37])
@pytest.mark.parametrize(("batch", "width"), [(1, 1), (3, 7), (2, 1025), (101, 2)])
def test_squared_errors_of_any_size(batch, width, size):
    z = dual(batch, width, 2, size)
    y = (size * np.random.default_rng(1).standard_normal((batch, width))).astype(np.float32)
    values, finite = run(mean_squared_error.bind, z, width, y)
    loss, derivatives, residual = loss_cases.squared(z[0, :, :width], z[1:, :, :width], y)
    tolerances.SAME_LOSS.check(values[0], loss)
    tolerances.Within(absolute=tolerances.LOSS.absolute * size).check(values[1:], derivatives)
    assert finite == (loss <= loss_cases.MOST)
    found = residual_of(
        mean_squared_error.bind_residual, np.ascontiguousarray(z[0, :, :width]), np.ascontiguousarray(y)
    )
    with np.errstate(over="ignore"):
        tolerances.CARRIED.check(found, residual.astype(np.float32))


def test_differences_from_targets_may_be_beyond_float32():
    z = np.full((2, 1, 3), 3e38, np.float32)
    z[1] = 1
    y = -z[0]
    values, finite = run(mean_squared_error.bind, z, 3, y)
    assert not finite
    size = float(z[0, 0, 0])
    tolerances.SAME_LOSS.check(values, [(2 * size) ** 2, 4 * size])
    # 2 (z - y) / 5 is a float32 again.
    wide = np.full((1, 5), 3e38, np.float32)
    found = residual_of(mean_squared_error.bind_residual, wide, -wide)
    tolerances.CARRIED.check(found, 0.8 * wide)


def test_a_training_step_refuses_a_loss_beyond_float32():
    model = fg.Sequential([fg.Dense(1, bias=False)], 1)
    model.load_parameters({"0.weight": np.ones((1, 1))})
    x, y = np.full((2, 1), 1e25, np.float32), np.zeros((2, 1), np.float32)
    with pytest.raises(fg.DivergenceError, match="MeanSquaredError is inf of finite outputs of example 0"):
        fg.Trainer(model, optimizer=fg.SGD(1e-3), loss=fg.MeanSquaredError()).step(x, y)
    np.testing.assert_array_equal(model.parameters()["0.weight"], 1)
