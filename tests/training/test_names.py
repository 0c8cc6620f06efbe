"""What a trainer is made with, by name; and one line for what it cannot be made with."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.estimators import recipe
from fgnumba.optimizers import OPTIMIZERS
from fgnumba.training.defaults import default_learning_rate
from tests.recipes import GENERAL

X = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)
Y = np.arange(8) % 3


def model():
    return fg.Sequential([fg.Dense(6, activation="relu"), fg.Dense(3)], 5, seed=1)


def parameters(**given):
    trainer = fg.Trainer(model(), **given)
    for _ in range(3):
        trainer.step(X, Y)
    return {name: array.tobytes() for name, array in trainer.model.parameters().items()}


@pytest.mark.parametrize("name", GENERAL)
def test_an_estimator_by_name_is_its_recipes(name):
    by_name = parameters(estimator=name, optimizer=fg.SGD(1e-3))
    assert by_name == parameters(estimator=recipe(name).make(), optimizer=fg.SGD(1e-3))


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "frank-wolfe"])
def test_an_optimizer_by_name_takes_the_rate_that_was_searched(name):
    rate = GENERAL["feedback"].learning_rate
    assert rate is not None
    expected = parameters(estimator="feedback", optimizer=OPTIMIZERS[name](rate))
    assert parameters(estimator="feedback", optimizer=name) == expected
    made = fg.ActivityPerturbation(feedback=fg.Feedback(control=0.0))
    assert parameters(estimator=made, optimizer=name) == expected


@pytest.mark.parametrize("directions", [1, 7])
def test_weight_perturbation_takes_the_rate_of_its_formula(directions):
    estimator = fg.WeightPerturbation(directions=directions)
    rate = default_learning_rate(model().parameter_count, directions)
    expected = parameters(estimator=estimator, optimizer=fg.SGD(rate))
    assert parameters(estimator=estimator, optimizer="sgd") == expected


def test_a_loss_by_name():
    for name in ("mse", "mean-squared-error"):
        trainer = fg.Trainer(model(), loss=name, optimizer="sgd")
        assert isinstance(trainer.loss, fg.MeanSquaredError)
        trainer.step(X, np.zeros((8, 3), np.float32))
    for name in ("bce", "binary-cross-entropy", "huber"):
        trainer = fg.Trainer(model(), loss=name, optimizer="sgd")
        assert isinstance(trainer.loss, fg.Huber if name == "huber" else fg.BinaryCrossEntropy)
        trainer.step(X, np.zeros((8, 3)))
    for same in ("cross-entropy", "softmax-cross-entropy", None):
        assert isinstance(fg.Trainer(model(), loss=same, optimizer="sgd").loss, fg.SoftmaxCrossEntropy)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": "hinge"}, "loss: unknown loss 'hinge' (choose from bce, "),
        ({"loss": fg.MeanSquaredError}, "loss is the class MeanSquaredError; an object is required: "),
        ({"loss": 3}, "loss is 3; an object of class Loss, or one of the names bce, "),
        ({"estimator": "feedbak"}, "estimator: unknown estimator 'feedbak' (did you mean 'feedback'?)"),
        ({"estimator": fg.SPSA}, "estimator is the class SPSA; an object is required: SPSA(...)"),
        (
            {"estimator": ["feedback"]},
            "estimator is ['feedback']; an object of class Estimator, or one of the names ",
        ),
        ({"optimizer": "adan"}, "optimizer: unknown optimizer 'adan' (did you mean 'adam'?)"),
        ({"optimizer": fg.Adam}, "optimizer is the class Adam; an object is required: Adam(...)"),
        ({"optimizer": 0.1}, "optimizer is 0.1; an object of class Optimizer, or one of the names adam, "),
        ({"optimizer": "frank-wolfe"}, "optimizer is 'frank-wolfe', which needs a radius; "),
        (
            {"estimator": fg.ActivityPerturbation(draws=3, layerwise=True), "optimizer": "adam"},
            "optimizer: no learning rate is known for this ActivityPerturbation; fgnumba.Adam(learning_rate=...)",
        ),
    ],
)
def test_what_is_none_of_these_is_refused_in_a_line(given, message):
    with pytest.raises(fg.ConfigError) as caught:
        fg.Trainer(model(), **{"optimizer": "sgd", **given})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("layers", [fg.Dense(3), 3, None])
def test_layers_that_are_not_several(layers):
    with pytest.raises(fg.ConfigError, match=r"layers is .*; several layers are required"):
        fg.Sequential(layers, 5)


@pytest.mark.parametrize(
    "make",
    [
        lambda activation: fg.Dense(3, activation=activation),
        lambda activation: fg.Conv2d(3, 1, activation=activation),
        lambda activation: fg.Add(activation),
        lambda activation: fg.Activation(activation),
    ],
    ids=["dense", "conv2d", "add", "activation"],
)
def test_no_activation_is_identity(make):
    assert make(None) == make("identity")
