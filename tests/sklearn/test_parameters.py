"""Parameters of the estimators for scikit-learn: what is impossible, and what changes between two calls of ``fit``."""

from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import ConfigError

pytest.importorskip("sklearn")

from fgnumba.sklearn import ForwardGradientClassifier, ForwardGradientRegressor

rng = np.random.default_rng(1)
X, REAL = rng.standard_normal((60, 4)), rng.standard_normal(60)
TEXT = np.array(["a", "b", "c"])[np.arange(60) % 3]
OPTIONS: dict[str, Any] = {"max_iter": 2, "random_state": 0, "device": "cpu"}
BOTH = pytest.mark.parametrize(
    ("kind", "y"), [(ForwardGradientClassifier, TEXT), (ForwardGradientRegressor, REAL)]
)


def outputs(model):
    return np.asarray(model.model_(X))


@BOTH
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; a whole number of at least 1"),
        ({"batch_size": 2.5}, r"batch_size is 2\.5; a whole number"),
        ({"max_iter": 0}, "max_iter is 0; a whole number of at least 1"),
        ({"n_iter_no_change": 0}, "n_iter_no_change is 0"),
        ({"tol": None}, "tol is None; a finite number 0 or above"),
        ({"early_stopping": "yes"}, "early_stopping is 'yes'"),
        ({"warm_start": 3}, "warm_start is 3"),
        ({"early_stopping": True, "validation_fraction": 1.5}, r"validation_fraction is 1\.5; .* below 1"),
        ({"hidden_layer_sizes": None}, "hidden_layer_sizes is None; a sequence is required"),
        ({"layers": 5}, "layers is 5; a sequence is required"),
    ],
)
def test_parameters_that_cannot_be(kind, y, parameters, message):
    for fit in ("fit", "partial_fit"):
        if fit == "partial_fit" and kind is ForwardGradientClassifier:
            continue
        with pytest.raises(ConfigError, match=message):
            getattr(kind(**{**OPTIONS, **parameters}), fit)(X, y)


@BOTH
def test_one_hidden_layer_as_a_number(kind, y):
    one, other = kind(7, **OPTIONS).fit(X, y), kind((np.uint8(7),), **OPTIONS).fit(X, y)
    np.testing.assert_array_equal(outputs(one), outputs(other))
    assert one.get_params()["hidden_layer_sizes"] == 7


@BOTH
@pytest.mark.parametrize("fit", ["fit", "partial_fit"])
def test_another_learning_rate_takes_effect_in_the_next_call(kind, y, fit):
    model = kind((7,), learning_rate=0.01, warm_start=True, **OPTIONS).fit(X, y)
    kept, before = model.model_, outputs(model)
    getattr(model.set_params(learning_rate=1e-30), fit)(X, y)
    assert model.model_ is kept
    assert model.trainer_.optimizer.learning_rate == 1e-30
    np.testing.assert_array_equal(outputs(model), before)
    trainer = model.trainer_
    assert getattr(model, fit)(X, y).trainer_ is trainer
    with pytest.raises(ConfigError, match="unknown estimator 'feedbak'"):
        getattr(model.set_params(estimator="feedbak"), fit)(X, y)


@BOTH
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"hidden_layer_sizes": (3,)},
            r"hidden_layer_sizes is \(3,\), and \(7,\) in the model that warm_start",
        ),
        ({"activation": "tanh"}, "activation is 'tanh', and 'relu' in the model"),
        ({"device": "cuda"}, "device is 'cuda', and 'cpu' in the model"),
        ({"layers": [fg.Dense(7)]}, "layers is .*, and None in the model"),
    ],
)
def test_a_model_of_other_parameters_is_not_gone_on_with(kind, y, parameters, message):
    model = kind((7,), warm_start=True, **OPTIONS).fit(X, y)
    before = outputs(model)
    model.set_params(**parameters)
    for fit in (model.fit, model.partial_fit):
        with pytest.raises(ConfigError, match=message):
            fit(X, y)
    np.testing.assert_array_equal(outputs(model), before)
    if "device" not in parameters:
        model.set_params(warm_start=False).fit(X, y)


def test_scores_are_kept_if_early_stopping_is_switched_on_later():
    model = ForwardGradientClassifier(warm_start=True, **OPTIONS).fit(X, TEXT)
    assert len(model.set_params(early_stopping=True).fit(X, TEXT).validation_scores_) == 2


def test_parts_of_the_data_may_lack_classes():
    # pytest makes an error of fit's warning that a class has no example.
    order = np.argsort(TEXT)
    weights = {"b": 2.0, "c": 3.0}
    model = ForwardGradientClassifier(class_weight=weights, **OPTIONS)
    for start in (0, 20, 40):
        rows = order[start : start + 20]
        model.partial_fit(X[rows], TEXT[rows], classes=["a", "b", "c"])
    assert model.n_iter_ == 3
    subset = ForwardGradientClassifier(warm_start=True, **OPTIONS).fit(X, TEXT)
    assert subset.fit(X[order[:20]], TEXT[order[:20]]).classes_.tolist() == ["a", "b", "c"]


def test_balanced_weights_need_all_data():
    model = ForwardGradientClassifier(class_weight="balanced", **OPTIONS)
    with pytest.raises(
        ValueError, match="class_weight is 'balanced', which needs all data; partial_fit takes a dict"
    ):
        model.partial_fit(X, TEXT, classes=["a", "b", "c"])


def test_a_first_call_that_is_refused_leaves_no_model():
    model = ForwardGradientClassifier(class_weight={"a": 1.0, "q": 2.0}, **OPTIONS)
    with pytest.raises(ValueError, match="class_weight"):
        model.fit(X, TEXT)
    assert not hasattr(model, "model_")
    with pytest.raises(ValueError, match="y has the label 'z'"):
        model.set_params(class_weight=None).partial_fit(X[:1], ["z"], classes=["a", "b"])
    assert not hasattr(model, "model_")
