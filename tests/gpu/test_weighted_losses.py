"""Binary cross-entropy, Huber's loss, smoothed labels and weights on a GPU against float64."""

from functools import partial
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.gpu import Gpu
from fgnumba.kernels.ops.binary_cross_entropy import cuda as binary_cross_entropy
from fgnumba.kernels.ops.huber import cuda as huber
from fgnumba.kernels.ops.mean_squared_error import cuda as mean_squared_error
from fgnumba.kernels.ops.weighted_cross_entropy import cuda as weighted_cross_entropy
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.testing import check_loss
from tests import loss_cases, tolerances
from tests.gpu.test_losses import dual
from tests.tolerances_losses import CERTAIN

# One of each, rows longer than a warp, more than a block of eight warps.
SHAPES = [(1, 1), (7, 3), (9, 33)]
DELTA = 0.75


def run(gpu, operation, z, width, targets, constants=None, weighted=False):
    """Return the loss and its derivatives, whether they are finite, and the residuals."""
    result, values = gpu.zeros((1,), RESULT), gpu.array(np.full(len(z), np.nan))
    more = {} if constants is None else {"constants": gpu.array(np.array(constants, np.float64))}
    more["weighted"] = weighted
    y, named = gpu.array(targets), {"classes" if operation is weighted_cross_entropy else "width": width}
    gpu.run(*operation.bind(1, z=gpu.array(z), **named, targets=y, result=result, values=values, **more))
    e = gpu.nans(z.shape[1], width)
    gpu.run(operation.bind_residual(1, z=gpu.array(z[0]), targets=y, residual=e, **more))
    return values.download(), bool(result.download()["finite"][0]), e.download()


def packed(targets, weights):
    return np.concatenate([weights[:, None], targets.reshape(len(weights), -1)], axis=1).astype(np.float32)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [0, 1, 6])
@pytest.mark.parametrize(("batch", "width"), SHAPES)
@pytest.mark.parametrize("operation", [binary_cross_entropy, huber, mean_squared_error])
def test_losses_of_real_targets(gpu, operation, batch, width, count, weighted):
    rng = np.random.default_rng(1)
    z, y = dual(batch, width, count, 2.0), rng.random((batch, width)).astype(np.float32)
    weights = (rng.random(batch) + 0.5 if weighted else np.ones(batch)).astype(np.float32)
    constants = [DELTA] if operation is huber else None
    found = run(gpu, operation, z, width, packed(y, weights) if weighted else y, constants, weighted)
    references: dict[Any, Any] = {
        binary_cross_entropy: loss_cases.binary,
        huber: partial(loss_cases.huber, delta=DELTA),
        mean_squared_error: loss_cases.squared,
    }
    reference = references[operation]
    primal, tangents = z[0, :, :width], z[1:, :, :width]
    rows = [reference(primal[i : i + 1], tangents[:, i : i + 1], y[i : i + 1]) for i in range(batch)]
    expected = [
        np.mean([w * row[0] for w, row in zip(weights, rows, strict=True)]),
        *np.mean([w * row[1] for w, row in zip(weights, rows, strict=True)], axis=0),
    ]
    assert found[1]
    tolerances.LOSS.check(found[0], expected)
    residual = np.concatenate([w * row[2] for w, row in zip(weights, rows, strict=True)])
    tolerances.RESIDUAL.check(found[2], residual)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("batch", "classes"), SHAPES)
def test_weighted_cross_entropy(gpu, batch, classes, smoothing, weighted):
    rng = np.random.default_rng(3)
    z, y = dual(batch, classes, 5, 3.0), rng.integers(0, classes, batch)
    of_classes, own = rng.random(classes) + 0.5, np.float32(rng.random(batch) + 0.5)
    constants, targets = [smoothing, *of_classes], packed(y, own) if weighted else y
    values, finite, residual = run(gpu, weighted_cross_entropy, z, classes, targets, constants, weighted)
    weights = of_classes[y] * (own if weighted else 1)
    loss, derivatives, expected = loss_cases.weighted_cross_entropy(
        z[0, :, :classes], z[1:, :, :classes], y, smoothing, weights
    )
    assert finite
    tolerances.LOSS.check(values, [loss, *derivatives])
    tolerances.RESIDUAL.check(residual, expected)


@pytest.mark.parametrize("logit", [0.0, 15.0, 80.0, 3e38])
def test_labels_that_are_certain_keep_relative_accuracy(gpu, logit):
    z = np.array([[[logit, -logit]], [[1.0, 2.0]]], np.float32)
    for label in ([[1, 0]], [[0, 1]]):
        y = np.array(label, np.float32)
        values, finite, residual = run(gpu, binary_cross_entropy, z, 2, y)
        loss, derivatives, expected = loss_cases.binary(z[0], z[1:], y)
        assert finite
        CERTAIN.check(values, [loss, *derivatives])
        CERTAIN.check(residual, expected)


@pytest.mark.parametrize("size", [1e-15, 1e19, 1e37])
def test_huber_of_any_size(gpu, size):
    z = dual(3, 35, 2, size)
    y = (size * np.random.default_rng(1).standard_normal((3, 35))).astype(np.float32)
    for delta in (1.0, 1e19):
        values, finite, _ = run(gpu, huber, z, 35, y, [delta])
        loss, derivatives, _ = loss_cases.huber(z[0, :, :35], z[1:, :, :35], y, delta)
        tolerances.SAME_LOSS.check(values[0], loss)
        within = tolerances.Within(absolute=tolerances.LOSS.absolute * min(size, delta))
        within.check(values[1:], derivatives)
        assert finite == (loss <= loss_cases.MOST)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block", [0, 2])
def test_what_is_not_finite_is_reported(gpu, block, bad):
    z = dual(4, 3, 2)
    z[block, 2, 1] = bad
    y = np.ones((4, 3), np.float32)
    assert not run(gpu, binary_cross_entropy, z, 3, y)[1]
    assert not run(gpu, huber, z, 3, y, [DELTA])[1]
    assert not run(gpu, weighted_cross_entropy, z, 3, np.zeros(4, np.int64), [0.1, 1, 1, 1])[1]


@pytest.mark.parametrize(
    ("weight", "label"), [(1, -1), (1, 3), (1, 1.5), (1, np.nan), (-1, 1), (np.nan, 1), (np.inf, 1)]
)
def test_impossible_targets_and_weights_are_never_finite(gpu, weight, label):
    y = np.array([[1, 0], [weight, label], [1, 2]], np.float32)
    values, finite, residual = run(
        gpu, weighted_cross_entropy, np.nan_to_num(dual(3, 3, 1)), 3, y, [0, 1, 1, 1], True
    )
    assert not finite
    assert not np.isfinite(values).any()
    assert np.isnan(residual[1]).all() == (weight == 1 or np.isnan(weight))
    assert np.isfinite(residual[[0, 2]]).all()


@pytest.mark.parametrize("label", [-0.5, 1.5, np.nan])
def test_labels_out_of_range_are_never_finite(gpu, label):
    y = np.ones((2, 3), np.float32)
    y[1, 2] = label
    values, finite, residual = run(gpu, binary_cross_entropy, dual(2, 3, 1), 3, y)
    assert not finite
    assert np.isnan(values).all()
    assert np.isnan(residual[1, 2])


@pytest.mark.parametrize("kind", ["of both ends", "one is minus infinity", "two are infinite", "NaN last"])
def test_extreme_logits_are_what_float64_says(gpu, kind):
    logits = np.array(loss_cases.LOGITS[kind], np.float32)
    classes = len(logits)
    z = dual(1, classes, 1)
    z[0, :, :classes] = logits
    for target in range(classes):
        constants = [0, *np.ones(classes)]
        values, finite, _ = run(gpu, weighted_cross_entropy, z, classes, np.array([target]), constants)
        loss, derivative, _ = loss_cases.cross_entropy(logits, z[1, 0, :classes], target)
        tolerances.LOSS_OF_HUGE_LOGITS.check(values, [loss, derivative], f"target {target}")
        assert finite == (abs(loss) <= loss_cases.MOST)


def test_losses_pass_their_checks(driver):
    device = Gpu(driver, graph=False)
    binary = fg.BinaryCrossEntropy()
    check_loss(
        binary,
        lambda rng, batch, outputs: rng.random((batch, outputs)),
        outputs=(3,),
        device=device,
        tolerance=tolerances.CHECKED_LOSS,
    )
    weighted = fg.SoftmaxCrossEntropy(0.1, [1.0, 2.0, 0.5]).with_example_weights()
    check_loss(
        weighted,
        lambda rng, batch, outputs: weighted.pack(rng.integers(0, 3, batch), rng.random(batch) + 0.5),
        outputs=(3,),
        device=device,
        tolerance=tolerances.CHECKED_LOSS,
    )


@pytest.mark.parametrize("estimator", [fg.WeightPerturbation(), fg.ActivityPerturbation()])
def test_steps_with_weights_are_the_processors(driver, estimator):
    weighted = fg.SoftmaxCrossEntropy(0.1).with_example_weights()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 4)).astype(np.float32), weighted.pack(rng.integers(0, 3, 6), rng.random(6))
    found = []
    for where in (Gpu(driver), "cpu"):
        model = fg.Sequential([fg.Dense(5, "tanh"), fg.Dense(3)], 4, seed=1, device=where)
        trainer = fg.Trainer(model, loss=weighted, estimator=estimator, optimizer=fg.SGD(0.1))
        found.append([trainer.step(x, y).loss for _ in range(3)])
    tolerances.MODEL_LOSS.check(found[0], found[1])
