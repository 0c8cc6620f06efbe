"""Weights and options of losses that are impossible, each refused in a line."""

from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.losses import ExampleWeights
from tests.model.test_weighted_losses import LOSSES
from tests.state_machine.own_loss import Scaled


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([1, 2, 3], fg.ShapeError, r"weights have shape \(3,\); \(4,\), one for each example, is required"),
        (np.ones((4, 1)), fg.ShapeError, r"weights have shape \(4, 1\); \(4,\)"),
        (1.0, fg.ShapeError, r"weights have shape \(\); \(4,\)"),
        ([0, 0, 0, 0], fg.DatasetError, "weights are all 0 in float32; one above 0 is required"),
        ([1e-60, 0, 0, 0], fg.DatasetError, "weights are all 0 in float32; one above 0 is required"),
        ([1, -1, 0, 0], fg.DatasetError, r"weights\[1\] is -1; a number that is 0 or above"),
        ([1, 1, np.nan, 0], fg.DatasetError, r"weights\[2\] is nan; a number that is 0 or above"),
        ([1, 1, np.inf, 0], fg.DatasetError, r"weights\[2\] is inf; a number that is 0 or above"),
        ([1, 1, 1e39, 0], fg.DatasetError, r"weights\[2\] is 1e\+39; a number that is 0 or above"),
        (["a", "b", "c", "d"], fg.DtypeError, "weights have dtype <U1; real numbers are required"),
    ],
)
def test_impossible_weights_are_refused(weights, error, message):
    with pytest.raises(error, match=f"^{message}"):
        fg.SoftmaxCrossEntropy().with_example_weights().pack([0, 1, 2, 0], weights)


@pytest.mark.parametrize(
    ("name", "targets", "error", "message"),
    [
        (
            "cross-entropy",
            [0, -1],
            fg.DatasetError,
            r"targets\[1\] is -1; with weights of examples, classes are 0",
        ),
        ("cross-entropy", [0, 2**24], fg.DatasetError, r"targets\[1\] is 16777216; with weights of examples"),
        ("cross-entropy", [0.0, 1.0], fg.DtypeError, "targets have dtype float64; integers are required"),
        ("cross-entropy", [[0], [1]], fg.ShapeError, r"targets have shape \(2, 1\); \(2,\), a class each"),
        ("cross-entropy", [], fg.ShapeError, r"targets have shape \(0,\); targets of one example or more"),
        ("cross-entropy", 3, fg.ShapeError, r"targets have shape \(\); targets of one example or more"),
        (
            "squared",
            np.zeros((2, 3, 1)),
            fg.ShapeError,
            r"targets have shape \(2, 3, 1\); \(n, N\) or \(n,\)",
        ),
        ("squared", np.zeros((2, 0)), fg.ShapeError, r"targets have shape \(2, 0\); \(n, N\) or \(n,\)"),
        ("squared", [0, np.inf], fg.DatasetError, r"targets\[1, 0\] is inf; a number that is finite"),
        ("binary", [0, 2], fg.DatasetError, r"targets\[1, 0\] is 2; a number from 0 to 1 is required"),
    ],
)
def test_impossible_targets_are_not_packed(name, targets, error, message):
    with pytest.raises(error, match=f"^{message}"):
        LOSSES[name].with_example_weights().pack(targets, np.ones(np.shape(targets)[:1]))


@pytest.mark.parametrize(
    ("packed", "error", "message"),
    [
        (
            np.zeros((2, 4), np.float32),
            fg.ShapeError,
            r"targets have shape \(2, 4\); \(2, 2\), weights and targets",
        ),
        (np.zeros((2, 2), np.int64), fg.DtypeError, "targets have dtype int64; float32, as pack returns"),
        (np.array([[1, 0.5], [1, 0]]), fg.DatasetError, r"targets\[0\] is 0.5; a class, a whole number"),
        (np.array([[1, 3], [1, 0.0]]), fg.DatasetError, r"targets\[0\] is 3; classes are 0 to 2"),
        (np.array([[1, np.nan], [1, 0.0]]), fg.DatasetError, r"targets\[0\] is nan; a class, a whole number"),
        (
            np.array([[1, 0], [-1.0, 0]]),
            fg.DatasetError,
            r"weights\[1\] is -1.0; a number that is 0 or above",
        ),
    ],
)
def test_packed_targets_are_checked_in_each_step(packed, error, message):
    model = fg.Sequential([fg.Dense(3)], 4)
    trainer = fg.Trainer(model, loss=LOSSES["cross-entropy"].with_example_weights(), optimizer=fg.SGD(0.1))
    with pytest.raises(error, match=f"^{message}"):
        trainer.step(np.ones((2, 4)), packed)
    with pytest.raises(error, match=f"^{message}"):
        fg.jvp(model, trainer.loss, np.ones((2, 4)), packed, fg.directions.RankOne(seed=1))


class Unweighable(fg.losses.Loss):
    target_layout = check_targets = check_target_values = None  # type: ignore[assignment]
    bind = bind_residual = value = None  # type: ignore[assignment]


def test_a_loss_of_ones_own_refuses_weights_in_a_line():
    with pytest.raises(
        fg.ConfigError, match=r"^Unweighable takes no weights of examples; a built-in loss, or one that"
    ):
        Unweighable().with_example_weights()
    with pytest.raises(
        fg.ConfigError, match=r"^Scaled takes no weights of examples, being a subclass of MeanSquared"
    ):
        Scaled(3.0).with_example_weights()
    for loss in (Scaled(3.0), Unweighable(), LOSSES["huber"].with_example_weights(), "mse", None):
        with pytest.raises(fg.ConfigError, match=r"^loss is .*; a built-in loss is required"):
            ExampleWeights(loss)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"label_smoothing": -0.1},
            "label_smoothing is -0.1; a finite number 0 or above and below 1 is required",
        ),
        (
            {"label_smoothing": 1.0},
            "label_smoothing is 1.0; a finite number 0 or above and below 1 is required",
        ),
        ({"label_smoothing": "a"}, "label_smoothing is 'a'; a finite number"),
        (
            {"class_weight": 3.0},
            "class_weight is 3.0; a sequence of positive numbers, one for each class, is required",
        ),
        ({"class_weight": []}, r"class_weight is \[\]; a sequence of positive numbers"),
        ({"class_weight": {0: 1.0}}, r"class_weight is \{0: 1.0\}; a sequence of positive numbers"),
        ({"class_weight": "abc"}, "class_weight is 'abc'; a sequence of positive numbers"),
        ({"class_weight": [1, 0]}, r"class_weight\[1\] is 0; a finite number above 0 is required"),
        ({"class_weight": [1, np.nan]}, r"class_weight\[1\] is nan; a finite number above 0 is required"),
    ],
)
def test_impossible_options_are_refused(given, message):
    with pytest.raises(fg.ConfigError, match=f"^{message}"):
        fg.SoftmaxCrossEntropy(**given)


@pytest.mark.parametrize("weighted", [False, True])
def test_class_weights_must_fit_the_model(weighted):
    loss: Any = fg.SoftmaxCrossEntropy(class_weight=np.array([1, 2]))
    y = np.array([0, 1])
    if weighted:
        loss = loss.with_example_weights()
        y = loss.pack(y, [1, 1])
    trainer = fg.Trainer(fg.Sequential([fg.Dense(3)], 4), loss=loss, optimizer=fg.SGD(0.1))
    message = "^class_weight has 2 numbers; the model has 3 outputs, one for each class$"
    with pytest.raises(fg.ConfigError, match=message):
        trainer.step(np.ones((2, 4)), y)
    with pytest.raises(fg.ConfigError, match=message):
        trainer.bind(2)
