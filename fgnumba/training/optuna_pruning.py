"""Pruning of training runs by Optuna: a run whose figures are poor beside those of other trials ends early.

Source: optuna.readthedocs.io, Efficient Optimization Algorithms, Activating Pruners.
"""

import math
from collections.abc import Sequence
from typing import Any

from fgnumba.errors import ConfigError, shown
from fgnumba.training.callbacks import Callback
from fgnumba.training.monitors import Monitor
from fgnumba.training.records import History, Record

DIRECTIONS = {"max": "MAXIMIZE", "min": "MINIMIZE"}
"""Optuna's name for the direction of a study, by the mode of the figure."""


class OptunaPruning(Callback):
    """Reports a validation figure to an Optuna trial at each record, and ends the run if the study's pruner says so.

    A loss that is not a number ends the run, too. ``Trainer.fit`` then raises ``optuna.TrialPruned``, which marks the
    trial as pruned if the study's objective lets it through. ``Trainer.fit`` needs validation data for this.

    Parameters
    ----------
    trial : optuna.trial.Trial
        The trial that the run belongs to.
    monitor : str
        The figure to report: ``"validation_accuracy"`` (the default), for a study that maximises, or
        ``"validation_loss"``, for one that minimises; or ``"validation_NAME"`` for another metric of the run.
    mode : str, optional
        ``"max"`` if a larger figure is better, ``"min"`` if a smaller one is. None (the default): as the name tells.

    Attributes
    ----------
    pruned : int or None
        The step after which this object ended the run, or None if it did not.

    Raises
    ------
    ConfigError
        `trial` is no trial, `monitor` is unknown, or the study's direction is the opposite of the figure's. During a
        run: there are no validation data.

    Examples
    --------
    An objective for ``study.optimize``, where `model` makes a model and `dataset` is a data set::

        def objective(trial):
            rate = trial.suggest_float("learning_rate", 1e-5, 1.0, log=True)
            trainer = fg.Trainer(model(), optimizer=fg.Adam(rate))
            pruning = fg.callbacks.OptunaPruning(trial)
            history = trainer.fit(dataset, epochs=20, validation=0.1, callbacks=[pruning])
            return history.records[-1].validation_accuracy


        study = optuna.create_study(direction="maximize")
        study.optimize(objective, n_trials=30)
    """

    def __init__(self, trial: Any, monitor: str = "validation_accuracy", mode: str | None = None) -> None:
        if not callable(getattr(trial, "report", None)) or not callable(getattr(trial, "should_prune", None)):
            raise ConfigError(f"trial is {shown(trial)}; a trial of an Optuna study is required")
        self._monitor, self._trial = Monitor(monitor, mode), trial
        self.monitor = self._monitor.name
        self.pruned: int | None = None
        self._reported = False
        directions: Sequence[Any] = getattr(getattr(trial, "study", None), "directions", ())
        required = DIRECTIONS[self._monitor.mode]
        if len(directions) == 1 and directions[0].name != required:
            raise ConfigError(
                f"monitor is {self.monitor!r}, and the study's direction {directions[0].name.lower()}; "
                f"direction={required.lower()!r} is required, or the pruner would end the best runs"
            )

    def on_start(self, trainer: Any, steps: int) -> None:
        """Forget that an earlier run was pruned."""
        self.pruned, self._reported = None, False

    def ends(self, record: Record) -> bool:
        """Report the record's figure, and return whether the run ends."""
        value = self._monitor.value(record)
        if math.isnan(value):
            self._check(record)
            # Optuna's pruners would end it too, some with a warning of NumPy's.
            self.pruned = record.step
            return True
        self._reported = True
        self._trial.report(value, record.step)
        if self._trial.should_prune():
            self.pruned = record.step
        return self.pruned is not None

    def _check(self, record: Record) -> None:
        """Raise ConfigError if there are no validation data: then the figure is not one that is not a number."""
        if not self._reported and math.isnan(record.validation_accuracy):
            raise ConfigError("callbacks: OptunaPruning needs validation data, such as validation=0.1")

    def on_end(self, history: History) -> None:
        """Raise ``optuna.TrialPruned`` if this object ended the run."""
        if self.pruned is not None:
            from optuna import TrialPruned

            raise TrialPruned(f"pruned after step {self.pruned}")
