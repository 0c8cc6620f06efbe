"""Whether a run has learned anything: accuracies near the share of the largest class, losses near the first."""

import math

import numpy as np
import pytest

from fgnumba.runs.verdict import RISE, chance_level, doubts
from fgnumba.training.records import Record
from tests.tolerances_metrics import METRIC

TENTHS = np.arange(1000) % 10


def found(loss=0.1, accuracy=0.9, first=2.3, labels=TENTHS):
    return doubts(Record(30, 1.0, loss, test_loss=loss, test_accuracy=accuracy), first, labels, 50.0)


def test_chance_is_two_standard_errors_above_the_largest_class():
    level = chance_level(TENTHS)
    assert level is not None
    share, limit = level
    assert share == 0.1
    METRIC.check(limit, 0.1 + 2 * math.sqrt(0.09 / 1000))
    few = np.array([0, 0, 0, 1])
    assert chance_level(few) == (0.75, 1.0)


@pytest.mark.parametrize("labels", [np.zeros(5, np.int64), np.ones((5, 2)), np.ones(5, np.float32)])
def test_targets_without_several_classes_have_no_chance_level(labels):
    assert chance_level(labels) is None
    assert found(accuracy=0.0, labels=labels) == []


def test_a_run_that_learned_is_not_doubted():
    assert found() == []
    assert found(accuracy=0.119) == []


def test_an_accuracy_that_may_be_luck():
    (line,) = found(accuracy=0.118)
    assert line.startswith(
        "test accuracy 0.1180 is no better than guessing: one class has a share of 0.1000 of the 1000"
    )
    assert "up to 0.1190 may be luck; try more --steps" in line


def test_a_regression_that_predicts_the_mean():
    targets = np.ones((5, 1), np.float32)
    worst, good = (Record(30, 1.0, 0.1, test_loss=0.1, metrics={"test_r2": r2}) for r2 in (-0.25, 0.01))
    (line,) = doubts(worst, 2.3, targets, 1e-3)
    assert line == "test R² -0.2500 is no better than always predicting the mean of the targets"
    assert doubts(good, 2.3, targets, 1e-3) == []


def test_a_loss_that_rose():
    (line,) = found(loss=1.6e10)
    assert line == "the training loss rose from 2.3 to 1.6e+10; try a lower --learning-rate, such as 5"
    assert len(found(loss=1.6e10, accuracy=0.1)) == 2
    assert found(loss=2.3 * RISE * 0.999) == []
    assert found(loss=5.0, first=math.nan) == []
