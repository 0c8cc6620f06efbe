"""Monitors: which figure is watched, and what is better."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import ConfigError
from fgnumba.training.callbacks import EarlyStopping
from fgnumba.training.monitors import Monitor, figures_of


@dataclass(frozen=True)
class Measured(fg.Record):
    """A record with further metrics."""

    metrics: dict = field(default_factory=dict)


def measured(step, loss=math.nan, accuracy=math.nan, **metrics):
    return Measured(step, 1.0, 1.0, validation_loss=loss, validation_accuracy=accuracy, metrics=metrics)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("validation_loss", "min"),
        ("validation_mse", "min"),
        ("validation_log_loss", "min"),
        ("validation_mean_absolute_error", "min"),
        ("validation_balanced_accuracy", "max"),
        ("validation_f1", "max"),
        ("validation_r2", "max"),
        ("validation_roc_auc", "max"),
    ],
)
def test_what_a_name_says(name, mode):
    monitor = Monitor(name)
    assert (monitor.mode, monitor.inferred) == (mode, True)
    assert Monitor(name, mode).inferred
    other = {"min": "max", "max": "min"}[mode]
    assert (Monitor(name, other).mode, Monitor(name, other).inferred) == (other, False)


@pytest.mark.parametrize(
    ("options", "ended", "best"),
    [
        ({"monitor": "validation_f1"}, 5, 3),
        ({"monitor": "validation_score", "mode": "min"}, 3, 1),
        ({"monitor": "validation_f1", "mode": "min"}, 3, 1),
    ],
)
def test_early_stopping_watches_any_metric(options, ended, best):
    stopping = EarlyStopping(2, **options)
    name = options["monitor"]
    for step, value in enumerate([0.1, 0.2, 0.5, 0.3, math.nan, 0.9], 1):
        if stopping.ends(measured(step, 1.0, 0.5, **{name: value})):
            break
    assert (step, stopping.best_step) == (ended, best)


def test_the_default_is_the_loss_where_there_is_no_accuracy():
    stopping = EarlyStopping(2)
    statement = stopping.statement
    assert stopping.monitor == "validation_accuracy"
    ended = [stopping.ends(measured(step, loss)) for step, loss in enumerate([3.0, 2.0, 2.5, 2.1], 1)]
    assert ended == [False, False, False, True]
    assert (stopping.monitor, stopping.best, stopping.best_step) == ("validation_loss", 2.0, 2)
    # Checkpoints hold it, so that it must not change within a run.
    assert stopping.statement == statement
    stopping.on_start(None, 4)
    assert (stopping.monitor, stopping.best) == ("validation_accuracy", None)


def test_a_default_that_was_resumed_goes_on_with_the_loss():
    stopping = EarlyStopping(2)
    stopping.state = {"best": 2.0, "best_step": 2, "waited": 1}
    stopping.on_resume(None, 9, 3)
    assert stopping.ends(measured(4, 2.5))
    assert stopping.best == 2.0


def test_statements_are_those_of_before():
    assert EarlyStopping(4, min_delta=2.0, restore_best=True).statement == (
        "patience 4, validation_accuracy, min_delta 2.0, restore_best True"
    )
    assert EarlyStopping(monitor="validation_loss", mode="min").statement == (
        "patience 5, validation_loss, min_delta 0.0, restore_best False"
    )
    assert EarlyStopping(monitor="validation_k", mode="max").statement == (
        "patience 5, validation_k, min_delta 0.0, restore_best False, mode max"
    )


@pytest.mark.parametrize("name", ["validation_accuracy", "validation_f1"])
def test_a_figure_that_the_run_has_not_is_named(name):
    with pytest.raises(ConfigError, match=f"the run has no {name}; it has loss, validation_loss") as caught:
        EarlyStopping(monitor=name).ends(measured(1, 2.0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"monitor": "test_accuracy"}, "unknown figure 'test_accuracy'"),
        ({"monitor": "loss"}, "unknown figure 'loss'"),
        ({"monitor": "validation_thing"}, "mode='max' or mode='min' is required"),
        ({"monitor": "validation_thing", "mode": "up"}, "mode is 'up'"),
        ({"monitor": "validation_thing", "mode": 1}, "mode is 1"),
        ({"mode": "max"}, "mode is 'max' without a monitor"),
    ],
)
def test_what_cannot_be_watched(options, message):
    with pytest.raises(ConfigError, match=message):
        EarlyStopping(**options)


def test_figures_that_were_not_measured_are_left_out():
    assert figures_of(fg.Record(1, 1.0, 0.5)) == {"loss": 0.5}
    assert figures_of(measured(1, 2.0)) == {"loss": 1.0, "validation_loss": 2.0}
    found = figures_of(measured(1, math.nan, 0.25, validation_f1=0.5))
    assert found.keys() == {"loss", "validation_loss", "validation_accuracy", "validation_f1"}
    assert math.isnan(found["validation_loss"])


def regression(**options):
    """Return the history of a run on real targets that get no better from some step on."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((96, 4)).astype(np.float32)
    y = rng.standard_normal((96, 2)).astype(np.float32)
    model = fg.Sequential([fg.Dense(16, activation="relu"), fg.Dense(2)], 4, seed=0)
    trainer = fg.Trainer(model, loss="mse", estimator="feedback", optimizer=fg.Adam(1e-2), seed=1)
    return trainer.fit(x, y, steps=400, batch_size=16, evaluate_every=5, validation=0.25, **options)


@pytest.mark.parametrize(
    ("options", "name", "best"),
    [
        ({}, "validation_loss", min),
        ({"monitor": "validation_mae"}, "validation_mae", min),
        ({"monitor": "validation_r2"}, "validation_r2", max),
    ],
)
def test_a_run_of_regression_ends_by_what_it_has(tmp_path, options, name, best):
    stopping = EarlyStopping(4, restore_best=True, **options)
    kept = fg.callbacks.BestCheckpoint(tmp_path / "best", name)
    log = fg.callbacks.CSVLogger(tmp_path / "log.csv")
    history = regression(metrics="mae", callbacks=[stopping, kept, log])
    values = {record.step: record.value(name) for record in history.records}
    assert (history.ended_by, stopping.monitor) == ("callback", name)
    assert stopping.best == kept.best == best(values.values())
    assert stopping.best_step == kept.best_step == history.restored_step
    assert history.final.step == stopping.best_step + 4 * 5
    table = np.genfromtxt(log.path, delimiter=",", names=True)
    assert table[name].tolist() == list(values.values())


def test_a_metric_that_the_run_has_not_ends_it_with_a_line():
    with pytest.raises(
        ConfigError, match="the run has no validation_f1; it has loss, validation_loss, validat"
    ):
        regression(callbacks=[EarlyStopping(monitor="validation_f1")])
