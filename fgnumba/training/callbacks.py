"""What is told of a run while it trains, and what may end it early."""

import math
from typing import Any

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.training.records import History, Record, StepResult
from fgnumba.validation import flag, real_number, whole_number

MONITORS = {"validation_accuracy": 1.0, "validation_loss": -1.0}
"""Figures of a record that :class:`EarlyStopping` can watch: 1 where more is better, -1 where less is."""


class Callback:
    """Base of what follows a training run; every method does nothing unless overridden."""

    def on_start(self, trainer: Any, steps: int) -> None:
        """Follow the start of a training of `steps` steps, or fewer where a callback ends it early."""

    def on_resume(self, trainer: Any, steps: int, done: int) -> None:
        """Follow the start of a training that continues after step `done`; by default as :meth:`on_start`."""
        self.on_start(trainer, steps)

    def on_step(self, step: int, result: StepResult) -> None:
        """Follow a step; `step` counts from 1.

        On a GPU, steps are told of after they were taken: the model may be ahead, up to the next record.
        """

    def ends(self, record: Record) -> bool:
        """Return whether training ends with this record, before :meth:`on_record` is told of it; by default not.

        The test figures are not known yet: nothing that ends a run can depend on them. A run that was ended so has
        ended: resumed from its checkpoint, it takes no further step.
        """
        return False

    def on_record(self, record: Record) -> None:
        """Follow an evaluation."""

    def on_end(self, history: History) -> None:
        """Follow the end of a run, whatever it is: ``history.ended_by`` says what.

        An error that ended the run is raised when every callback has been told, and not one of theirs.
        """


class EarlyStopping(Callback):
    """Ends a run whose validation figures get no better.

    ``Trainer.fit`` must be given a validation part, and takes one object of this kind. What it has seen is kept in
    checkpoints: a run that is resumed ends where the undisturbed one ends.

    Parameters
    ----------
    patience : so many records in a row without a better figure end the run.
    monitor : the figure: ``"validation_accuracy"`` or ``"validation_loss"``.
    min_delta : a figure is better where it is by more than this.
    restore_best : at the end of the run, early or not, the model is given back the parameters that it had at its best
        record. Otherwise it keeps those of the last step.

    Attributes
    ----------
    best : the best figure so far, None before the first.
    best_step : the step of its record. waited : records since then.

    Raises
    ------
    ConfigError
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
        """Its settings in a line: a run is resumed with the same."""
        return (
            f"patience {self.patience}, {self.monitor}, min_delta {self.min_delta!r}, "
            f"restore_best {self.restore_best}"
        )

    @property
    def state(self) -> dict[str, Any]:
        """What it has seen, as JSON can hold it."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited}

    @state.setter
    def state(self, seen: dict[str, Any]) -> None:
        self.best: float | None = seen["best"]
        self.best_step: int = seen["best_step"]
        self.waited: int = seen["waited"]

    def on_start(self, trainer: Any, steps: int) -> None:
        """Forget earlier runs."""
        self.state = _UNSEEN

    def on_resume(self, trainer: Any, steps: int, done: int) -> None:
        """Go on from what was seen before; the trainer has set it."""

    def ends(self, record: Record) -> bool:
        """Return whether there was nothing better for so many records; NaN never is."""
        sign, found = MONITORS[self.monitor], float(getattr(record, self.monitor))
        before = -math.inf if self.best is None else sign * self.best
        if sign * found > before + self.min_delta:
            self.best, self.best_step, self.waited = found, record.step, 0
        else:
            self.waited += 1
        return self.waited >= self.patience


_UNSEEN = {"best": None, "best_step": 0, "waited": 0}
