"""Callbacks: objects that a training run informs of its steps and records, and that may end it early."""

import math
from typing import Any

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.training.records import History, Record, StepResult
from fgnumba.validation import flag, real_number, whole_number

MONITORS = {"validation_accuracy": 1.0, "validation_loss": -1.0}
"""Quantities of a record that :class:`EarlyStopping` can watch: 1 if larger is better, -1 if smaller is better."""


class Callback:
    """Base class of objects that follow a training run. Each method does nothing unless a subclass overrides it.

    For example, a callback that prints the training loss of each record::

        class Printer(fgnumba.Callback):
            def on_record(self, record):
                print(record.step, record.loss)
    """

    def on_start(self, trainer: Any, steps: int) -> None:
        """Follow the start of a run; called once before its first step.

        Parameters
        ----------
        trainer : Trainer
            The trainer whose run begins.
        steps : int
            Number of steps of the run. It takes fewer if a callback ends it early.
        """

    def on_resume(self, trainer: Any, steps: int, done: int) -> None:
        """Follow the start of a run that is resumed; called in place of :meth:`on_start`, and by default calls it.

        Parameters
        ----------
        trainer : Trainer
            The trainer whose run continues.
        steps : int
            Number of steps of the whole run.
        done : int
            Number of steps that it has taken already.
        """
        self.on_start(trainer, steps)

    def on_step(self, step: int, result: StepResult) -> None:
        """Follow a step; called after each one.

        On a GPU many steps are taken at once, and this method is called for each of them afterwards. So the model may
        be some steps ahead, but not beyond the next record.

        Parameters
        ----------
        step : int
            Number of the step, counted from 1.
        result : StepResult
            Its loss and directional derivatives.
        """

    def ends(self, record: Record) -> bool:
        """Return whether the run shall end with this record. By default it shall not.

        This method is called before :meth:`on_record`. The record has no test loss or accuracy yet, so that the end of
        a run cannot depend on them. A run that was ended in this way has ended for good: resumed from its checkpoint,
        it takes no further step.

        Parameters
        ----------
        record : Record
            The record that was just made.
        """
        return False

    def on_record(self, record: Record) -> None:
        """Follow a record; called after each evaluation of the model.

        Parameters
        ----------
        record : Record
            The record; the last one of a run has the test loss and accuracy.
        """

    def on_end(self, history: History) -> None:
        """Follow the end of a run; called once, whatever the reason for the end.

        If an error ended the run, it is raised after all callbacks have been called, and takes precedence over an error
        that this method raises.

        Parameters
        ----------
        history : History
            The run's records. Its ``ended_by`` gives the reason for the end.
        """


class EarlyStopping(Callback):
    """Ends a run whose validation accuracy or loss stops improving.

    ``Trainer.fit`` needs validation data for this, and takes at most one object of this class. The object's state is
    kept in checkpoints, so that a resumed run ends at the same step as an uninterrupted one.

    Parameters
    ----------
    patience : int
        Number of records in a row without an improvement after which the run ends. Default: 5.
    monitor : str
        The quantity to watch: ``"validation_accuracy"`` (the default) or ``"validation_loss"``.
    min_delta : float
        A value must be better than the best one by more than this to count as an improvement. Default: 0.
    restore_best : bool
        Whether the model gets back the parameters of its best record at the end of the run, also if the run was not
        ended early. Default: False, the model keeps the parameters of the last step.

    Attributes
    ----------
    best : float or None
        The best value so far, or None before the first record.
    best_step : int
        The step of the record with the best value.
    waited : int
        Number of records since then.

    Raises
    ------
    ConfigError
        A value is impossible, such as an unknown `monitor`.
    """

    def __init__(
        self,
        patience: int = 5,
        monitor: str = "validation_accuracy",
        min_delta: float = 0.0,
        restore_best: bool = False,
    ) -> None:
        self.patience = whole_number("patience", patience)
        if not isinstance(monitor, str) or monitor not in MONITORS:
            raise ConfigError(
                f"monitor: unknown figure {shown(monitor)}{did_you_mean(str(monitor), MONITORS)}"
            )
        self.monitor = str(monitor)
        self.restore_best = flag("restore_best", restore_best, "True or False")
        self.min_delta = real_number("min_delta", min_delta)
        self.state: dict[str, Any] = _UNSEEN

    @property
    def statement(self) -> str:
        """The settings as one line of text. A checkpoint holds it, because a run must be resumed with the same ones."""
        return (
            f"patience {self.patience}, {self.monitor}, min_delta {self.min_delta!r}, "
            f"restore_best {self.restore_best}"
        )

    @property
    def state(self) -> dict[str, Any]:
        """The attributes that change during a run, as values that JSON can hold."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited}

    @state.setter
    def state(self, seen: dict[str, Any]) -> None:
        self.best: float | None = seen["best"]
        self.best_step: int = seen["best_step"]
        self.waited: int = seen["waited"]

    def on_start(self, trainer: Any, steps: int) -> None:
        """Forget the records of earlier runs."""
        self.state = _UNSEEN

    def on_resume(self, trainer: Any, steps: int, done: int) -> None:
        """Keep the state that the run has restored from its checkpoint."""

    def ends(self, record: Record) -> bool:
        """Return whether `patience` records in a row were no improvement; NaN is never one."""
        sign, value = MONITORS[self.monitor], float(getattr(record, self.monitor))
        before = -math.inf if self.best is None else sign * self.best
        if sign * value > before + self.min_delta:
            self.best, self.best_step, self.waited = value, record.step, 0
        else:
            self.waited += 1
        return self.waited >= self.patience


_UNSEEN = {"best": None, "best_step": 0, "waited": 0}
