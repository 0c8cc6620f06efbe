"""Metrics of a run: names that its files can hold, functions that raise, and models that diverge."""

import math
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.training import metrics as lines
from fgnumba.training import scoring
from fgnumba.training.records import Record
from tests.training.test_class_names import NUMBERS, X, classifier

TARGETS = np.arange(30.0)


def third(targets, predictions):
    return -1 / 3


def strict(targets, predictions):
    if not np.isfinite(predictions).all():
        raise ValueError("predictions are not finite")
    return 0.0


def regressor(rate, momentum=0.0):
    model = fg.Sequential([fg.Dense(6), fg.Dense(1)], 4, seed=1, device="cpu")
    return fg.Trainer(model, loss="mse", optimizer=fg.SGD(rate, momentum=momentum))


def test_the_most_and_longest_metrics_are_read_again(tmp_path):
    most = {f"m{i:099}": third for i in range(scoring.MOST - 1)}
    options = {"metrics": most, "validation": (X, NUMBERS), "evaluate_every": 1}
    history = classifier().fit(X, NUMBERS, steps=2, checkpoints=fg.Checkpoints(tmp_path, every=1), **options)
    assert len(history.final.metrics) == scoring.MOST - 1
    reals: dict[str, Any] = dict.fromkeys(lines._NAMES - {"step"}, math.pi)
    whole = Record(step=1, **reals)
    values = {f"{part}_{name}": third(0, 0) for part in ("test", "validation") for name in most}
    assert len(lines.line_of(Record(**{**vars(whole), "metrics": values}))) < lines.MAX_LINE
    # A resumption that does not find them would warn, which fails the test.
    resumed = classifier().fit(
        X, NUMBERS, steps=4, checkpoints=fg.Checkpoints(tmp_path, every=1), resume=True, **options
    )
    assert resumed.records[:2] == history.records
    assert len(resumed.records) == 4


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"précision": third}, "the name 'précision' is no word of at most 100 letters from a to z"),
        ({"a" * 101: third}, "the name 'aaa.* is no word of at most 100 letters"),
        ({f"m{i}": third for i in range(32)}, "there are 33; at most 32 are possible"),
    ],
)
def test_metrics_that_no_file_could_hold(metrics, message):
    with pytest.raises(fg.ConfigError, match=message):
        classifier().fit(X, NUMBERS, steps=1, metrics=metrics)


def test_there_is_no_accuracy_of_real_numbers():
    # Early stopping would watch it, and it is 0 in every record.
    for given in ("accuracy", {"hits": "accuracy"}, scoring.accuracy):
        with pytest.raises(fg.ConfigError, match=r"accuracy is that of labels; MeanSquaredError takes real"):
            regressor(0.01).fit(X, TARGETS, steps=1, metrics=given)


def test_a_metric_that_raises_is_named():
    def broken(targets, predictions):
        raise ZeroDivisionError("no example of the rare class")

    with pytest.raises(ZeroDivisionError) as caught:
        classifier().fit(X, NUMBERS, steps=1, metrics=broken, validation=0.2)
    assert caught.value.__notes__ == ["raised by the metric broken"]


def test_a_metric_does_not_hide_that_a_run_has_diverged():
    trainer = regressor(1e4, momentum=0.9)
    with pytest.raises(fg.DivergenceError):
        trainer.fit(X, TARGETS, steps=300, validation=0.2, evaluate_every=1, metrics=strict)
    assert all(np.isfinite(array).all() for array in trainer.model.parameters().values())


def test_metrics_of_predictions_that_are_not_finite_are_nan():
    trainer = regressor(0.01)
    trainer.model.load_parameters({name: a + 3e38 for name, a in trainer.model.parameters().items()})
    found = fg.evaluate(trainer.model, X, TARGETS, "mse", metrics=strict)
    assert math.isnan(found.metrics["r2"])
    assert math.isnan(found.metrics["strict"])


def test_a_metric_that_changes_its_arguments_changes_nothing_else():
    def greedy(targets, predictions):
        targets[...] = predictions[...] = 0
        return 1.0

    labels = NUMBERS.copy()
    trainer = classifier()
    found = fg.evaluate(trainer.model, X, labels, metrics=[greedy, "accuracy"])
    np.testing.assert_array_equal(labels, NUMBERS)
    assert found.metrics == {"greedy": 1.0, "accuracy": fg.evaluate(trainer.model, X, NUMBERS).accuracy}
    data = fg.datasets.Dataset("points", X, labels, X, labels, 3)
    trainer.fit(data, steps=1, metrics=greedy)
    np.testing.assert_array_equal(data.y_test, NUMBERS)
    one, other = (fg.evaluate(regressor(0.1).model, X, TARGETS, "mse", metrics=f) for f in (greedy, None))
    assert one.loss == other.loss
