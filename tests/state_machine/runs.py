"""Runs on data sets: in parts, stopped, failed, interrupted, copied, saved and resumed."""

import tempfile
from typing import Any

import fgnumba as fg
from tests.state_machine.interrupts import interrupted
from tests.state_machine.settings import Batch, Data
from tests.state_machine.subject import Subject, duplicates, outcome_of, require


class Observer(fg.Callback):
    """Follows a run, and at steps of it does something.

    Parameters
    ----------
    stop_at, fail_at : the step that it stops the run after, or raises :class:`FailedError`.
    copy_at, way : the step that it copies the trainer after, and how.
    look : asks model and trainer after each step, which changes nothing.
    """

    def __init__(
        self, stop_at: int = 0, copy_at: int = 0, way: str = "deepcopy", fail_at: int = 0, look: Any = None
    ) -> None:
        self.stop_at, self.copy_at, self.way, self.fail_at, self.look = stop_at, copy_at, way, fail_at, look
        self.steps = self.ends_seen = 0
        self.trainer: fg.Trainer | None = None
        self.copied: fg.Trainer | None = None

    def on_start(self, trainer: fg.Trainer, steps: int) -> None:
        """Take note of whom it follows."""
        self.trainer = trainer

    def on_step(self, step: int, result: fg.StepResult) -> None:
        """Do what is due."""
        self.steps += 1
        require(self.trainer is not None, "a callback was told of a step, and not of the start")
        assert self.trainer is not None
        if self.look is not None:
            x, y = self.look
            self.trainer.model(x)
            self.trainer.estimate(x, y)
        if step == self.stop_at:
            self.trainer.stop()
        if step == self.copy_at:
            self.copied = duplicates()[self.way](self.trainer)
        if step == self.fail_at:
            raise FailedError

    def on_end(self, history: fg.History) -> None:
        """Count the ends."""
        self.ends_seen += 1


class FailedError(Exception):
    """What somebody's callback raises."""


def fit_in_pieces(
    subject: Subject, data: Data, batch_size: int, pieces: list[int], epochs: bool, every: int | None
) -> None:
    """Fit once and again: the order of the data goes on as in one fit."""
    built = data.build(subject.recipe.network)
    size = min(batch_size, data.train)
    for piece in pieces:
        first = subject.trainer.steps_done
        given: dict[str, Any] = {"batch_size": batch_size, "evaluate_every": every}
        given["epochs" if epochs else "steps"] = piece
        observer = Observer()
        outcome = outcome_of(
            lambda given=given, observer=observer: subject.trainer.fit(built, callbacks=[observer], **given)
        )
        if outcome is not None:
            # Where a run diverges it goes back to records of its own: only the same call comes to the same.
            subject.took("fit", outcome, data=data, **given)
            subject.check("after a fit that diverged")
            return
        per_epoch = data.train // size
        count = piece * per_epoch if epochs else piece
        require(observer.steps == count, f"callbacks saw {observer.steps} of {count} steps")
        require(observer.ends_seen == 1, f"callbacks saw {observer.ends_seen} ends of a run that ended")
        # Epochs are whole: in the midst of one, the next begins.
        begun = -(-first // per_epoch) * per_epoch if epochs else first
        subject.took_batches(data, size, begun, count)


def fit_stopping(subject: Subject, data: Data, batch_size: int, steps: int, patience: int) -> None:
    """Fit with early stopping, which gives the best parameters back."""
    stopping = fg.callbacks.EarlyStopping(patience, restore_best=True)
    given: dict[str, Any] = {"batch_size": batch_size, "steps": steps}
    given |= {"validation": 0.4, "evaluate_every": 2}
    built = data.build(subject.recipe.network)
    try:
        outcome = outcome_of(lambda: subject.trainer.fit(built, callbacks=[stopping], **given))
    except fg.DatasetError:
        return
    subject.took("fit", outcome, data=data, patience=patience, **given)


def fit_copying(
    subject: Subject, data: Data, batch_size: int, steps: int, at: int, way: str
) -> Subject | None:
    """Fit with a callback that copies the trainer amid the run, and return the copy."""
    first, size = subject.trainer.steps_done, min(batch_size, data.train)
    before = list(subject.calls)
    observer = Observer(copy_at=at, way=way)
    built = data.build(subject.recipe.network)
    given: dict[str, Any] = {"batch_size": batch_size, "steps": steps}
    outcome = outcome_of(lambda: subject.trainer.fit(built, callbacks=[observer], **given))
    if outcome is not None:
        subject.took("fit", outcome, data=data, **given)
        return None
    subject.took_batches(data, size, first, steps)
    require(observer.copied is not None, "there is no copy")
    assert observer.copied is not None
    copied = Subject(subject.recipe, observer.copied, before)
    copied.took_batches(data, size, first, at)
    copied.check("a copy amid a run")
    return copied


def fit_kept(
    subject: Subject,
    data: Data,
    batch_size: int,
    steps: int,
    every: int,
    stop_at: int,
    events: int | None,
    afresh: bool,
) -> None:
    """Fit with checkpoints, stopped or interrupted amid the run, and resume: as if nothing had been.

    After an interrupt there need not be a checkpoint: then the run begins again, with a trainer as it was before.
    """
    afresh = afresh or events is not None
    first, size = subject.trainer.steps_done, min(batch_size, data.train)
    built = data.build(subject.recipe.network)
    given: dict[str, Any] = {"batch_size": batch_size, "steps": steps}
    with tempfile.TemporaryDirectory() as folder:

        def fit(trainer: fg.Trainer, observer: Observer, resume: bool) -> Any:
            kept = fg.Checkpoints(folder, every=every, minutes=None)
            return trainer.fit(built, callbacks=[observer], checkpoints=kept, resume=resume, **given)

        # A new trainer of the same past, as a new process has it.
        begun = Subject(subject.recipe, subject.trainer, list(subject.calls)).expected() if afresh else None
        observer = Observer(stop_at)
        if events is None:
            history = fit(subject.trainer, observer, False)
            require(history.stopped == (stop_at < steps), f"stopped is {history.stopped}")
        else:
            with interrupted(events):
                fit(subject.trainer, observer, False)
        if begun is not None:
            subject.trainer = begun
        history = fit(subject.trainer, Observer(), True)
        require(not history.stopped, "a run that was resumed says that it was stopped")
    subject.took_batches(data, size, first, steps)
    subject.check("after a resumption")


def fit_failing(subject: Subject, data: Data, batch_size: int, at: int, batch: Batch) -> None:
    """Fit with callbacks of which one asks the trainer, and one fails: as many steps are done as it saw."""
    first, size = subject.trainer.steps_done, min(batch_size, data.train)
    built, look = data.build(subject.recipe.network), subject.given(batch)
    observers = [Observer(look=look), Observer(fail_at=at)]
    try:
        subject.trainer.fit(built, steps=at + 2, batch_size=batch_size, callbacks=observers)
    except FailedError:
        subject.took_batches(data, size, first, at)
    else:
        raise AssertionError("what a callback raised is lost")
    require([one.steps for one in observers] == [at, at], "callbacks saw another number of steps")
    require([one.ends_seen for one in observers] == [1, 1], "callbacks did not see the end")
    subject.check("after a callback that failed")
