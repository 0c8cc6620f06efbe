"""Runs that loggers of every kind follow, and what each must have logged."""

import contextlib
from typing import Any

import fgnumba as fg
from tests.training.test_copies import blobs, trainer_of

FIT: dict[str, Any] = {"steps": 12, "batch_size": 16, "evaluate_every": 3, "validation": 0.2}
NAMES = {"loss", "validation_loss", "validation_accuracy", "learning_rate", "epoch", "seconds"}
TESTED = {"test_loss", "test_accuracy"}
STEPS = [3, 6, 9, 12]


class Stops(fg.Callback):
    """Stops a run, or ends it with an exception, after a step."""

    def __init__(self, at, error=None):
        self.at, self.error = at, error

    def on_start(self, trainer, steps):
        self.trainer = trainer

    def on_step(self, step, result):
        if step == self.at:
            if self.error is not None:
                raise self.error
            self.trainer.stop()


def fit(logger, *others, folder=None, resume=False, **options):
    """Train with a logger, and return the history."""
    saved = None if folder is None else fg.Checkpoints(folder, every=4)
    return trainer_of("feedback", "adam").fit(
        blobs(), callbacks=[*others, logger], checkpoints=saved, resume=resume, **{**FIT, **options}
    )


def in_parts(make, folder, disturbed):
    """Train a run in two parts, each with a logger of its own; return the history of the whole.

    With `disturbed` the first part ends between a checkpoint and the next, as when it is killed: the record at step 6
    was logged, and is made again.
    """
    if disturbed:
        with contextlib.suppress(KeyboardInterrupt):
            fit(make(), Stops(7, KeyboardInterrupt()), folder=folder)
    else:
        fit(make(), Stops(7), folder=folder)
    return fit(make(), folder=folder, resume=True)


def expected(history):
    """Return what must have been logged: the figures of each step by name, without the time that it took."""
    from fgnumba.training.loggers.base import values_of

    found = {record.step: values_of(record) for record in history.records}
    return {
        step: {name: value for name, value in values.items() if name != "seconds"}
        for step, values in found.items()
    }
