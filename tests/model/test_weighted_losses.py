"""Smoothed labels, and weights of classes and of examples, against float64."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.weighted_cross_entropy import cpu as weighted_cross_entropy
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.testing import check_loss
from tests import loss_cases, tolerances
from tests.model.test_pointwise_losses import dual
from tests.tolerances_losses import CERTAIN

LOSSES: dict[str, Any] = {
    "cross-entropy": fg.SoftmaxCrossEntropy(),
    "smoothed": fg.SoftmaxCrossEntropy(0.1, [1.0, 2.0, 0.5]),
    "squared": fg.MeanSquaredError(),
    "huber": fg.Huber(0.7),
    "binary": fg.BinaryCrossEntropy(),
}


def targets_of(loss, batch, outputs=3, seed=1):
    rng = np.random.default_rng(seed)
    if isinstance(loss, fg.SoftmaxCrossEntropy):
        return rng.integers(0, outputs, batch)
    if isinstance(loss, fg.BinaryCrossEntropy):
        return rng.random((batch, outputs))
    return rng.standard_normal((batch, outputs))


def weights_of(batch):
    return np.random.default_rng(2).random(batch) * 3 + 0.1


def run(z, classes, y, smoothing, weights, packed=False):
    """Return values, whether they are finite, and the residual."""
    result, values = np.zeros(1, RESULT), np.zeros(len(z))
    constants = np.array([smoothing, *weights])
    more = {"constants": constants, "weighted": packed}
    Program(
        weighted_cross_entropy.bind(1, z=z, classes=classes, targets=y, result=result, values=values, **more)
    ).run()
    e = aligned((z.shape[1], classes))
    primal = np.ascontiguousarray(z[0])
    Program([weighted_cross_entropy.bind_residual(1, z=primal, targets=y, residual=e, **more)], 1).run()
    return values, bool(result["finite"][0]), e


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize(("batch", "classes", "count"), [(1, 1, 1), (5, 1000, 2), (100, 101, 5), (7, 2, 0)])
def test_weighted_cross_entropy(batch, classes, count, smoothing, packed):
    rng = np.random.default_rng(3)
    z, y = dual(batch, classes, count, 3.0), rng.integers(0, classes, batch)
    of_classes, own = rng.random(classes) + 0.5, np.float32(rng.random(batch) + 0.5)
    targets = np.stack([own, np.float32(y)], axis=1) if packed else y
    values, finite, residual = run(z, classes, targets, smoothing, of_classes, packed)
    weights = of_classes[y] * (own if packed else 1)
    loss, derivatives, expected = loss_cases.weighted_cross_entropy(
        z[0, :, :classes], z[1:, :, :classes], y, smoothing, weights
    )
    assert finite
    tolerances.LOSS.check(values, [loss, *derivatives])
    tolerances.RESIDUAL.check(residual, expected)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("target", [-1, 10, 2**25, 1.5, np.nan])
def test_impossible_targets_are_never_finite(target, packed):
    if not packed and target != int(np.nan_to_num(target)):
        pytest.skip("a whole number cannot be that")
    z = dual(4, 10, 1)
    y = np.array([0, target, 3, 9])
    y = np.stack([np.ones(4), y], axis=1).astype(np.float32) if packed else y.astype(np.int64)
    values, finite, residual = run(z, 10, y, 0.1, np.ones(10), packed)
    assert not finite
    assert np.isnan(values).all()
    assert np.isnan(residual[1]).all()
    assert np.isfinite(np.delete(residual, 1, axis=0)).all()


@pytest.mark.parametrize("weight", [np.nan, np.inf, -1.0, -np.inf])
def test_an_impossible_weight_is_reported(weight):
    y = np.array([[1, 0], [weight, 1]], np.float32)
    assert not run(dual(2, 3, 1), 3, y, 0.0, np.ones(3), True)[1]


@pytest.mark.parametrize("kind", loss_cases.LOGITS)
def test_extreme_logits_are_what_float64_says(kind):
    logits = np.array(loss_cases.LOGITS[kind], np.float32)
    z = dual(1, len(logits), 1)
    z[0, 0, : len(logits)] = logits
    for target in range(len(logits)):
        loss, derivative, residual = loss_cases.cross_entropy(logits, z[1, 0, : len(logits)], target)
        values, finite, found = run(z, len(logits), np.array([target]), 0.0, np.ones(len(logits)))
        tolerances.LOSS_OF_HUGE_LOGITS.check(values, [loss, derivative], f"target {target}")
        tolerances.RESIDUAL.check(found[0], residual)
        assert finite == (abs(loss) <= loss_cases.MOST)
        smoothed = run(z, len(logits), np.array([target]), 0.5, np.ones(len(logits)))[0][0]
        own = fg.SoftmaxCrossEntropy(0.5).value(logits[None], np.array([target]))
        tolerances.LOSS_OF_HUGE_LOGITS.check(smoothed, own, f"smoothed, target {target}")
        if np.isfinite(logits).all():
            with np.errstate(over="ignore"):
                expected = loss + 0.5 * np.mean(logits[target].astype(np.float64) - logits)
            tolerances.LOSS_OF_HUGE_LOGITS.check(smoothed, expected, f"smoothed, target {target}")


def test_certain_examples_keep_relative_accuracy():
    z = np.zeros((2, 1, 2), np.float32)
    z[0, 0, 0], z[1, 0] = 15.0, [1.0, 3.0]
    values, _, residual = run(z, 2, np.array([0]), 0.0, np.array([3.0, 5.0]))
    _, derivative, expected = loss_cases.cross_entropy(z[0, 0], z[1, 0], 0)
    CERTAIN.check(values[1], 3 * derivative)
    CERTAIN.check(residual[0], 3 * expected)


def test_without_options_it_has_the_same_kernels_and_the_same_key():
    same = fg.SoftmaxCrossEntropy(label_smoothing=0.0, class_weight=None)
    assert same.key is fg.SoftmaxCrossEntropy
    assert same.__dict__ == {}
    trainer = fg.Trainer(fg.Sequential([fg.Dense(3)], 4), loss=same, optimizer=fg.SGD(0.1))
    assert [op.name for op in trainer.bind(5).operations][1] == "softmax cross-entropy"
    keys = [fg.SoftmaxCrossEntropy(0.1).key, fg.SoftmaxCrossEntropy(0.2).key]
    keys += [fg.SoftmaxCrossEntropy(class_weight=[1, 2]).key, fg.SoftmaxCrossEntropy(class_weight=[2, 1]).key]
    keys += [same.with_example_weights().key, fg.MeanSquaredError().with_example_weights().key]
    assert len({same.key, *keys}) == 7
    for loss in (fg.SoftmaxCrossEntropy(0.1, [1, 2]), same.with_example_weights()):
        assert copy.deepcopy(loss).key == loss.key == pickle.loads(pickle.dumps(loss)).key


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_with_weights_passes_its_check(name):
    loss = LOSSES[name]
    weighted = loss.with_example_weights()
    assert weighted.with_example_weights() is weighted

    def targets(rng, batch, outputs):
        return weighted.pack(targets_of(loss, batch, outputs), rng.random(batch) + 0.5)

    def reference(z, packed):
        alone = [
            loss.value(z[i : i + 1], weighted.loss._unpacked(packed[i : i + 1, 1:])) for i in range(len(z))
        ]
        return float(np.mean(packed[:, 0] * np.array(alone)))

    check_loss(weighted, targets, reference, outputs=(3,), tolerance=tolerances.CHECKED_LOSS)
    check_loss(weighted, targets, outputs=(3,), tolerance=tolerances.CHECKED_LOSS)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_one_change_nothing_but_roundings(name):
    loss = LOSSES[name]
    y, model = targets_of(loss, 6), fg.Sequential([fg.Dense(3)], 4, seed=1)
    x, v = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32), fg.directions.RankOne(1)
    weighted = loss.with_example_weights()
    found = fg.jvp(model, weighted, x, weighted.pack(y, np.ones(6)), v)
    tolerances.LOSS.check(found, fg.jvp(model, loss, x, y, v))
    tolerances.SAME_LOSS.check(
        weighted.value(model(x), weighted.pack(y, np.ones(6))), loss.value(model(x), y)
    )


@pytest.mark.parametrize("name", LOSSES)
def test_an_example_of_weight_two_counts_as_two_and_of_zero_as_none(name):
    loss = LOSSES[name]
    y, model = targets_of(loss, 4), fg.Sequential([fg.Dense(3)], 4, seed=1)
    x = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    weighted = loss.with_example_weights()
    value, gradient = reverse.value_and_grad(model, weighted, x, weighted.pack(y, [2, 0, 1, 1]))
    rows = [0, 0, 2, 3]
    expected, theirs = reverse.value_and_grad(model, loss, x[rows], y[rows])
    tolerances.LOSS.check(value, expected)
    for parameter in theirs:
        tolerances.LOSS.check(gradient[parameter], theirs[parameter])


def network():
    return fg.Sequential([fg.Dense(5, "tanh"), fg.Dense(6, "tanh"), fg.Dense(3)], 4, seed=1)


ESTIMATORS = {
    "weights": fg.WeightPerturbation("rademacher", 64),
    "activities": fg.ActivityPerturbation(64),
    "controlled feedback": fg.ActivityPerturbation(64, feedback=fg.Feedback()),
    "feedback": fg.ActivityPerturbation(feedback=fg.Feedback(control=0.0)),
    "local": fg.ActivityPerturbation(local=fg.LocalLosses()),
    "differences": fg.SPSA(directions=8),
    "hybrid": fg.HybridDifferences(directions=4, coordinates=2),
    "reverse": reverse.ReverseMode(),
}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", LOSSES)
def test_every_estimate_is_linear_in_the_weights(name, estimator):
    loss = LOSSES[name]
    x, y, w = np.random.default_rng(0).standard_normal((4, 4)), targets_of(loss, 4), weights_of(4)
    weighted = loss.with_example_weights()
    trainer = fg.Trainer(network(), loss=weighted, estimator=ESTIMATORS[estimator], optimizer=fg.SGD(0.01))
    for _ in range(3):
        # Feedback begins with zeros, and learns.
        trainer.step(x, weighted.pack(y, w))
    w[1] = 0
    found = trainer.estimate(x, weighted.pack(y, w))
    assert all(np.abs(one).max() > 0 for one in found.values())
    twice = trainer.estimate(x, weighted.pack(y, 2 * w.astype(np.float32)))
    for parameter in found:
        np.testing.assert_array_equal(twice[parameter], 2 * found[parameter])
    # An example without weight does not matter, whatever it is.
    x[1] += 1.0
    for parameter, one in trainer.estimate(x, weighted.pack(y, w)).items():
        np.testing.assert_array_equal(one, found[parameter])


@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_estimate_of_activity_perturbation_is_the_weighted_gradient(name):
    loss = LOSSES[name]
    y, model = targets_of(loss, 4), network()
    x = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    weighted = loss.with_example_weights()
    targets = weighted.pack(y, weights_of(4))
    _, exact = reverse.value_and_grad(model, weighted, x, targets)
    for feedback in (None, fg.Feedback()):
        estimator = fg.ActivityPerturbation(4096, feedback=feedback)
        trainer = fg.Trainer(model, loss=weighted, estimator=estimator, optimizer=fg.SGD(0.1))
        found = trainer.estimate(x, targets)
        away = np.sqrt(sum(np.sum((found[n] - exact[n]) ** 2) for n in exact))
        size = np.sqrt(sum(np.sum(exact[n] ** 2) for n in exact))
        # 11 units are perturbed by 4096 draws: the relative variance is some 11 / 4096.
        assert away < 5 * np.sqrt(11 / 4096) * size


def test_class_weights_are_weights_of_examples():
    of_classes, y = [1.0, 2.0, 0.5], np.array([0, 1, 2, 2])
    model, x = network(), np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    plain = fg.SoftmaxCrossEntropy().with_example_weights()
    found = reverse.value_and_grad(model, fg.SoftmaxCrossEntropy(class_weight=of_classes), x, y)
    expected = reverse.value_and_grad(model, plain, x, plain.pack(y, np.array(of_classes)[y]))
    tolerances.LOSS.check(found[0], expected[0])
    for name in expected[1]:
        tolerances.LOSS.check(found[1][name], expected[1][name])


def test_smoothing_is_pytorchs_and_the_mean_is_over_examples():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    z: Any = rng.standard_normal((9, 4))
    y, weights = rng.integers(0, 4, 9), rng.random(4) + 0.5
    wide, labels = torch.tensor(z), torch.tensor(y)
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.2)(wide, labels).item()
    tolerances.SAME_LOSS.check(fg.SoftmaxCrossEntropy(0.2).value(z, y), expected)
    theirs = torch.nn.CrossEntropyLoss(weight=torch.tensor(weights))(wide, labels).item()
    found = fg.SoftmaxCrossEntropy(class_weight=weights).value(z, y)
    tolerances.SAME_LOSS.check(found, theirs * weights[y].sum() / 9)


def test_a_loss_whose_option_is_set_later_is_another_loss():
    model, y = fg.Sequential([fg.Dense(3)], 4, seed=1), np.array([0, 1])
    x, v = np.ones((2, 4)), fg.directions.RankOne(seed=1)
    loss = fg.SoftmaxCrossEntropy()
    first = fg.jvp(model, loss, x, y, v)
    loss.label_smoothing = 0.5
    assert fg.jvp(model, loss, x, y, v) == fg.jvp(model, fg.SoftmaxCrossEntropy(0.5), x, y, v) != first
    loss.label_smoothing = 7.0
    with pytest.raises(fg.ConfigError, match=r"^label_smoothing is 7.0"):
        fg.jvp(model, loss, x, y, v)


@pytest.mark.parametrize("name", LOSSES)
def test_unpacked_targets_are_those_that_were_packed(name):
    loss = LOSSES[name]
    y, w = targets_of(loss, 5), weights_of(5)
    targets, weights = loss.with_example_weights().unpack(loss.with_example_weights().pack(y, w))
    assert targets.dtype == (np.int64 if y.ndim == 1 else np.float32)
    np.testing.assert_array_equal(targets, y.astype(targets.dtype))
    np.testing.assert_array_equal(weights, w.astype(np.float32))
    with pytest.raises(
        fg.ShapeError, match=r"^packed has shape \(5,\); \(n, 1 \+ N\), as pack returns, is required$"
    ):
        loss.with_example_weights().unpack(w)


@pytest.mark.parametrize("name", LOSSES)
def test_predictions_and_metric_are_those_of_the_loss_without_weights(name):
    loss, z = LOSSES[name], np.array([[0.5, -1.0, 2.0], [0.0, -3.0, -1.0]], np.float32)
    weighted = loss.with_example_weights()
    assert weighted.metric == loss.metric == ("r2" if name in ("squared", "huber") else "accuracy")
    np.testing.assert_array_equal(weighted.predictions(z), loss.predictions(z))
    if name == "binary":
        np.testing.assert_array_equal(loss.predictions(z), [[True, False, True], [False, False, False]])
        model = fg.Sequential([fg.Dense(3, bias=False)], 3)
        model.load_parameters({"0.weight": np.eye(3)})
        found = fg.evaluate(model, z, np.array([[1, 0, 0], [0, 0, 0]]), loss="bce")
        assert found.accuracy == found.metrics["accuracy"] == 5 / 6
