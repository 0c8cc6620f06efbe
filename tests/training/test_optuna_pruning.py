"""Pruning of runs by Optuna: what is reported, which runs end, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest

import fgnumba as fg

optuna = pytest.importorskip("optuna")


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    x = (rng.standard_normal((200, 8)) + 2 * np.eye(3, 8)[y]).astype(np.float32)
    return fg.datasets.Dataset("blobs", x[:150], y[:150], x[150:], y[150:], 3)


Pruner: Any = optuna.pruners.BasePruner


class PruneAt(Pruner):
    """Ends a trial from a step on."""

    def __init__(self, step):
        self.step = step

    def prune(self, study, trial):
        return trial.last_step >= self.step


def trainer():
    return fg.Trainer(fg.Sequential([fg.Dense(3)], 8, seed=1), optimizer=fg.SGD(0.1))


@pytest.mark.parametrize(
    ("monitor", "direction"), [("validation_accuracy", "maximize"), ("validation_loss", "minimize")]
)
def test_each_record_is_reported(blobs, monitor, direction):
    study = optuna.create_study(direction=direction, pruner=optuna.pruners.NopPruner())
    trial = study.ask()
    pruning = fg.callbacks.OptunaPruning(trial, monitor)
    history = trainer().fit(
        blobs, steps=10, batch_size=30, evaluate_every=4, validation=0.2, callbacks=[pruning]
    )
    reported = study.get_trials()[0].intermediate_values
    assert reported == {record.step: getattr(record, monitor) for record in history.records}
    assert sorted(reported) == [4, 8, 10]
    assert pruning.pruned is None


def test_a_study_marks_what_its_pruner_ends(blobs):
    steps = []

    def objective(trial):
        one = trainer()
        try:
            one.fit(
                blobs,
                steps=12,
                batch_size=30,
                evaluate_every=3,
                validation=0.2,
                callbacks=[fg.callbacks.OptunaPruning(trial)],
            )
        finally:
            steps.append(one.steps_done)
        return 1.0

    study = optuna.create_study(direction="maximize", pruner=PruneAt(6))
    study.optimize(objective, n_trials=2)
    assert steps == [6, 6]
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.PRUNED] * 2
    with pytest.raises(optuna.TrialPruned, match="pruned after step 6"):
        objective(study.ask())


def test_a_trial_of_no_study_is_reported_to(blobs):
    pruning = fg.callbacks.OptunaPruning(optuna.trial.FixedTrial({}))
    history = trainer().fit(blobs, steps=3, batch_size=30, validation=0.2, callbacks=[pruning])
    assert history.ended_by == "steps"


def test_what_is_refused(blobs):
    trial = optuna.create_study(direction="minimize").ask()
    with pytest.raises(fg.ConfigError, match=r"^trial is 3; a trial of an Optuna study is required$"):
        fg.callbacks.OptunaPruning(3)
    with pytest.raises(
        fg.ConfigError, match=r"unknown figure 'validation_los'.*did you mean 'validation_loss'"
    ):
        fg.callbacks.OptunaPruning(trial, "validation_los")
    with pytest.raises(
        fg.ConfigError, match="the study's direction minimize; direction='maximize' is required"
    ):
        fg.callbacks.OptunaPruning(trial)
    with pytest.raises(fg.ConfigError, match="direction maximize; direction='minimize' is required"):
        fg.callbacks.OptunaPruning(optuna.create_study(direction="maximize").ask(), "validation_loss")
    pruning = fg.callbacks.OptunaPruning(trial, "validation_loss")
    with pytest.raises(fg.ConfigError, match=r"OptunaPruning needs validation data, such as validation=0\.1"):
        trainer().fit(blobs, steps=3, batch_size=30, callbacks=[pruning])


def test_real_targets_have_no_accuracy():
    x = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    study = optuna.create_study(direction="maximize")
    one = fg.Trainer(fg.Sequential([fg.Dense(1)], 8), loss=fg.MeanSquaredError(), optimizer=fg.SGD(0.01))
    fit: dict[str, Any] = {"steps": 4, "batch_size": 10, "evaluate_every": 2, "validation": 0.2}
    with pytest.raises(
        fg.ConfigError, match="the run has no validation_accuracy; it has loss, validation_loss"
    ):
        one.fit(x, x[:, :1], **fit, callbacks=[fg.callbacks.OptunaPruning(study.ask())])
    study = optuna.create_study(direction="minimize")
    one.fit(x, x[:, :1], **fit, callbacks=[fg.callbacks.OptunaPruning(study.ask(), "validation_loss")])
    assert sorted(study.get_trials()[0].intermediate_values) == [2, 4]


def test_a_loss_that_is_not_finite_prunes(blobs):
    study = optuna.create_study(direction="minimize", pruner=optuna.pruners.NopPruner())
    pruning = fg.callbacks.OptunaPruning(study.ask(), "validation_loss")
    record = fg.Record(
        step=5,
        epoch=1.0,
        loss=1.0,
        test_loss=math.nan,
        test_accuracy=math.nan,
        learning_rate=0.1,
        seconds=1.0,
        validation_loss=math.nan,
        validation_accuracy=0.5,
    )
    assert pruning.ends(record)
    with pytest.raises(optuna.TrialPruned):
        pruning.on_end(fg.History())
    assert study.get_trials()[0].intermediate_values == {}
