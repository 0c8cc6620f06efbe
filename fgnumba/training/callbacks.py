"""Callbacks: objects that a training run informs of its steps and records, and that may end it early."""

import math
from typing import Any

from fgnumba.errors import ConfigError, shown
from fgnumba.training.kept_states import checked
from fgnumba.training.monitors import Monitor
from fgnumba.training.records import History, Record, StepResult
from fgnumba.training.text_metrics import NATS
from fgnumba.validation import flag, real_number, whole_number


class Callback:
    """Base class of objects that follow a training run. Each method does nothing unless a subclass overrides it.

    A subclass with a property ``state`` (values that JSON can hold) and a property ``statement`` (its settings as one
    line of text) has its state kept in checkpoints. A run that is resumed gives it back before :meth:`on_resume`, and
    refuses a callback of the same class with another statement.

    An exception in ``on_step`` or ``on_record`` ends the run once the step is complete: the other callbacks are told of
    it, its record is written, and a checkpoint if there are any. ``on_end`` is called, and the exception reaches the
    caller of ``fit`` with a note that names the callback and the method. After one in ``ends`` there is no new
    checkpoint: a resumed run makes that record again, and asks again.

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
    monitor : str, optional
        The figure to watch: ``"validation_accuracy"``, ``"validation_loss"``, or ``"validation_NAME"`` for another
        metric of the run. None (the default): the validation accuracy, or the validation loss in a run without
        accuracy or on a text; the function's value in :func:`fgnumba.minimize`.
    min_delta : float
        A value must be better than the best one by more than this to count as an improvement. Default: 0.
    restore_best : bool
        Whether the model gets back the parameters of its best record at the end of the run, also if the run was not
        ended early. Default: False, the model keeps the parameters of the last step.
    mode : str, optional
        ``"max"`` if larger values of `monitor` are better, ``"min"`` if smaller ones are. None (the default): as the
        name of `monitor` says, such as ``"max"`` for an accuracy and ``"min"`` for a loss or an error.

    Attributes
    ----------
    monitor : str
        The figure that is watched. For the default this is the validation accuracy until a record has none.
    best : float or None
        The best value so far, or None before the first record.
    best_step : int
        The step of the record with the best value.
    waited : int
        Number of records since then.

    Raises
    ------
    ConfigError
        A value is impossible, such as an unknown `monitor`; or, during a run, its records have no such figure.
    """

    def __init__(
        self,
        patience: int = 5,
        monitor: str | None = None,
        min_delta: float = 0.0,
        restore_best: bool = False,
        mode: str | None = None,
    ) -> None:
        self.patience = whole_number("patience", patience)
        self._default = monitor is None
        if self._default and mode is not None:
            raise ConfigError(f"mode is {shown(mode)} without a monitor; give both, or neither")
        self._monitor = self._given = Monitor(_DEFAULT if monitor is None else monitor, mode)
        self.restore_best = flag("restore_best", restore_best, "True or False")
        self.min_delta = real_number("min_delta", min_delta)
        self.state: dict[str, Any] = _UNSEEN

    @property
    def monitor(self) -> str:
        """The figure that is watched."""
        return self._monitor.name

    @property
    def statement(self) -> str:
        """The settings as one line of text. A checkpoint holds it, because a run must be resumed with the same ones.

        It has the monitor as it was given; the default is called ``validation_accuracy`` in every run.
        """
        given = self._given
        return (
            f"patience {self.patience}, {given.name}, min_delta {self.min_delta!r}, "
            f"restore_best {self.restore_best}{'' if given.inferred else f', mode {given.mode}'}"
        )

    @property
    def state(self) -> dict[str, Any]:
        """The attributes that change during a run, as values that JSON can hold."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited}

    @state.setter
    def state(self, seen: dict[str, Any]) -> None:
        seen = checked("early stopping", seen, _KINDS)
        self.best: float | None = seen["best"]
        self.best_step: int = seen["best_step"]
        self.waited: int = seen["waited"]

    def on_start(self, trainer: Any, steps: int) -> None:
        """Forget the records of earlier runs."""
        self.state, self._monitor = _UNSEEN, self._watched(trainer)

    def on_resume(self, trainer: Any, steps: int, done: int) -> None:
        """Keep the state that the run has restored from its checkpoint."""
        self._monitor = self._watched(trainer)

    def _watched(self, trainer: Any) -> Monitor:
        """Return the figure to watch; that of a descent of a function is the function's value."""
        own = getattr(trainer, "monitor", None)
        if own is None:
            return self._given
        if not self._default:
            raise ConfigError(
                f"monitor is {self._given.name!r}; a descent of a function has its value alone: EarlyStopping() "
                "without a monitor is required"
            )
        return Monitor(own, training=True)

    def ends(self, record: Record) -> bool:
        """Return whether `patience` records in a row were no improvement; NaN is never one."""
        judged_by_loss = math.isnan(record.validation_accuracy) or f"validation_{NATS}" in record.metrics
        if self._default and judged_by_loss and not math.isnan(record.validation_loss):
            self._monitor = Monitor("validation_loss")
        value = self._monitor.value(record)
        if self._monitor.better(value, self.best, self.min_delta):
            self.best, self.best_step, self.waited = value, record.step, 0
        else:
            self.waited += 1
        return self.waited >= self.patience


_DEFAULT = "validation_accuracy"
_UNSEEN = {"best": None, "best_step": 0, "waited": 0}
_KINDS: dict[str, tuple[type, ...]] = {"best": (float, type(None)), "best_step": (int,), "waited": (int,)}
