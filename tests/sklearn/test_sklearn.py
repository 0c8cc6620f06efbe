"""The classifier and the regressor for scikit-learn: its own checks of estimators, and what people do with them."""

import pickle

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import ConfigError
from tests.tolerances_metrics import LOSS_CURVE

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_diabetes, make_classification, make_regression
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fgnumba.sklearn import ForwardGradientClassifier, ForwardGradientRegressor

NOISE = (
    "the noise of a gradient estimate is drawn for each example of a batch, so that an example of weight 2 is told "
    "other noise than two examples: equal in expectation alone"
)


@parametrize_with_checks(
    [ForwardGradientClassifier(max_iter=50), ForwardGradientRegressor(max_iter=50)],
    expected_failed_checks=lambda estimator: {"check_sample_weight_equivalence_on_dense_data": NOISE},
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", [ForwardGradientClassifier, ForwardGradientRegressor])
def test_weights_are_repetitions_where_the_noise_is_that_of_the_whole_batch(kind):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 3)).astype(np.float32), rng.integers(0, 2, 12)
    repetitions = rng.integers(0, 4, 12)
    # One noise for all examples of a batch, which is all data: only the order of sums differs.
    options = {"estimator": fg.WeightPerturbation(directions=4), "optimizer": fg.SGD(0.01)}
    one, other = (kind((5,), **options, random_state=3, max_iter=20, batch_size=100) for _ in range(2))
    one.fit(x, y, sample_weight=repetitions)
    other.fit(np.repeat(x, repetitions, axis=0), np.repeat(y, repetitions))
    LOSS_CURVE.check(one.loss_curve_, other.loss_curve_)


def blobs():
    return make_classification(300, 6, n_informative=4, n_classes=3, random_state=1)


def test_a_pipeline_with_labels_of_text_reaches_97_percent():
    data = load_breast_cancer()
    y = np.array(["malignant", "benign"])[data.target]
    model = make_pipeline(StandardScaler(), ForwardGradientClassifier((16,), max_iter=40, random_state=0))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    assert cross_val_score(model, data.data, y, cv=folds).mean() >= 0.97


def test_regression_explains_45_percent():
    x, y = load_diabetes(return_X_y=True)
    regressor = ForwardGradientRegressor((16,), activation="tanh", max_iter=20, random_state=0)
    folds = KFold(5, shuffle=True, random_state=0)
    assert cross_val_score(make_pipeline(StandardScaler(), regressor), x, y, cv=folds).mean() >= 0.45


def test_partial_fit_learns_pass_by_pass():
    x, y = blobs()
    model = ForwardGradientClassifier((16,), random_state=0)
    with pytest.raises(ValueError, match="the first call of partial_fit needs all labels"):
        model.partial_fit(x, y)
    model.partial_fit(x[:50], y[:50], classes=[0, 1, 2])
    before = model.score(x, y)
    for _ in range(30):
        model.partial_fit(x, y)
    assert model.score(x, y) > max(before, 0.7)
    assert model.n_iter_ == len(model.loss_curve_) == 31
    with pytest.raises(ValueError, match=r"y has the label 7; the labels are \[0, 1, 2\]"):
        model.partial_fit(x[:2], [0, 7])
    with pytest.raises(ValueError, match="those of the first call are required"):
        model.partial_fit(x[:2], [0, 1], classes=[0, 1])


def test_partial_fit_of_a_regressor_keeps_the_scale_of_the_first_data():
    x, y = make_regression(200, 5, noise=1, random_state=0)
    model = ForwardGradientRegressor((), learning_rate=0.02, random_state=0)
    for _ in range(60):
        model.partial_fit(x, y)
    assert model.score(x, y) > 0.9
    scale = model.target_scale_
    model.partial_fit(x, 100 * y)
    assert model.target_scale_ is scale
    with pytest.raises(ValueError, match="y has 2 targets; 1 are required"):
        model.partial_fit(x, np.stack([y, y], axis=1))


def test_several_targets():
    x, y = make_regression(200, 5, n_targets=3, random_state=0)
    model = ForwardGradientRegressor((), learning_rate=0.02, max_iter=100, random_state=0).fit(x, y)
    assert model.predict(x).shape == y.shape
    assert model.score(x, y) > 0.9


@pytest.mark.parametrize("kind", [ForwardGradientClassifier, ForwardGradientRegressor])
def test_warm_start_goes_on_and_a_fit_without_it_begins_again(kind):
    x, y = blobs()
    options = {"random_state": 0, "n_iter_no_change": 1000}
    warm = kind((8,), warm_start=True, max_iter=3, **options).fit(x, y)
    warm.fit(x, y)
    whole, again = (kind((8,), max_iter=6, **options).fit(x, y) for _ in range(2))
    assert warm.loss_curve_ == whole.loss_curve_ == again.loss_curve_
    np.testing.assert_array_equal(warm.predict(x), whole.predict(x))
    assert len(again.fit(x, y).loss_curve_) == 6


def test_early_stopping_keeps_the_best_parameters():
    x, y = blobs()
    model = ForwardGradientClassifier(
        (32,), early_stopping=True, validation_fraction=0.3, n_iter_no_change=4, random_state=0
    ).fit(x, y)
    assert model.n_iter_ == len(model.validation_scores_) < 200
    assert max(model.validation_scores_) > 0.6
    best = int(np.argmax(model.validation_scores_))
    assert model.n_iter_ - 1 - best <= 4 + 1
    regressor = ForwardGradientRegressor((8,), early_stopping=True, random_state=0).fit(x, y)
    assert len(regressor.validation_scores_) == regressor.n_iter_
    assert ForwardGradientRegressor((8,), max_iter=2).fit(x, y).validation_scores_ is None


def test_training_ends_where_the_loss_stays():
    x, y = blobs()
    model = ForwardGradientClassifier((), n_iter_no_change=3, random_state=0)
    # No pass after the first is better by that much.
    assert model.set_params(**{"tol": 10.0}).fit(x, y).n_iter_ == 4


def test_balanced_class_weights_favour_the_rare_class():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (380, 2)), rng.normal(1.5, 1, (20, 2))])
    y = np.repeat([0, 1], [380, 20])
    rates = [
        ForwardGradientClassifier((), class_weight=weight, random_state=0).fit(x, y).predict(x).mean()
        for weight in (None, "balanced", {0: 1, 1: 100})
    ]
    assert rates[0] < rates[1] < rates[2]


def test_a_search_in_several_processes_finds_what_one_finds():
    x, y = blobs()
    grid = {"hidden_layer_sizes": [(4,), (16,)], "estimator": ["feedback", "activity"]}
    results = [
        GridSearchCV(ForwardGradientClassifier(max_iter=5, random_state=0), grid, cv=2, n_jobs=jobs)
        .fit(x, y)
        .cv_results_["mean_test_score"]
        for jobs in (None, 2)
    ]
    np.testing.assert_array_equal(*results)


def test_calibration_and_probabilities():
    x, y = blobs()
    model = ForwardGradientClassifier((16,), random_state=0).fit(x, np.array(list("abc"))[y])
    probabilities = model.predict_proba(x)
    np.testing.assert_array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(x))
    np.testing.assert_array_equal(
        np.exp(model.predict_log_proba(x)).argmax(axis=1), probabilities.argmax(axis=1)
    )
    calibrated = CalibratedClassifierCV(ForwardGradientClassifier((16,), max_iter=20, random_state=0), cv=2)
    assert calibrated.fit(x, y).score(x, y) > 0.6


def test_copies_and_layers_and_objects_as_parameters():
    x, y = blobs()
    model = ForwardGradientClassifier(
        layers=[fg.Dense(8, activation="tanh"), fg.LayerNorm()],
        estimator=fg.ActivityPerturbation(feedback=fg.Feedback()),
        optimizer=fg.SGD(0.05),
        max_iter=5,
        random_state=0,
    ).fit(x, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))
    np.testing.assert_array_equal(clone(model).fit(x, y).predict_proba(x), model.predict_proba(x))
    by_rate = ForwardGradientClassifier(max_iter=2, optimizer="sgd", learning_rate=0.05, random_state=0)
    assert by_rate.fit(x, y).trainer_.optimizer == fg.SGD(0.05)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ForwardGradientClassifier(loss="mse"), "loss is 'mse'; a classifier needs a loss of class labels"),
        (ForwardGradientRegressor(loss="cross-entropy"), "a regressor needs a loss of real targets"),
        (
            ForwardGradientClassifier(optimizer=fg.SGD(0.1), learning_rate=0.1),
            "the rate belongs to an optimizer",
        ),
        (ForwardGradientClassifier(estimator="feedbak"), "did you mean 'feedback'"),
        (ForwardGradientClassifier(activation="rleu"), "did you mean 'relu'"),
    ],
)
def test_parameters_that_cannot_be(model, message):
    x, y = blobs()
    with pytest.raises(ConfigError, match=message):
        model.fit(x, y)
