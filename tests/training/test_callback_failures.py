"""Callbacks that raise: the run ends with their exception, named, and loses nothing."""

import json
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from tests.training.test_copies import bits, blobs, trainer_of

FIT: dict[str, Any] = {"steps": 12, "batch_size": 16, "evaluate_every": 3, "validation": 0.2}


class Told(fg.Callback):
    """Notes everything that it is told."""

    def __init__(self):
        self.steps, self.records, self.asked, self.ended = [], [], [], []

    def on_step(self, step, result):
        self.steps.append(step)

    def ends(self, record):
        self.asked.append(record.step)
        return False

    def on_record(self, record):
        self.records.append(record.step)

    def on_end(self, history):
        self.ended.append(history.ended_by)


class Raises(fg.Callback):
    """Raises an exception in one method, at one step."""

    def __init__(self, method, at=6, error=None):
        self.method, self.at, self.error = method, at, error or ValueError("mine")

    def _raise(self, method, step):
        if method == self.method and step == self.at:
            raise self.error

    def on_start(self, trainer, steps):
        self._raise("on_start", self.at)

    def on_resume(self, trainer, steps, done):
        self._raise("on_resume", self.at)

    def on_step(self, step, result):
        self._raise("on_step", step)

    def ends(self, record):
        self._raise("ends", record.step)
        return False

    def on_record(self, record):
        self._raise("on_record", record.step)

    def on_end(self, history):
        self._raise("on_end", self.at)


def lines(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def whole():
    trainer = trainer_of("feedback", "adam")
    history = trainer.fit(blobs(), **FIT)
    return bits(trainer), [record.step for record in history.records]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("make", [lambda: ValueError("mine"), lambda: OSError(28, "No space left on device")])
@pytest.mark.parametrize("method", ["on_step", "on_record", "ends"])
def test_a_callback_that_raises_loses_nothing(tmp_path, method, make, first):
    error = make()
    told, raises = Told(), Raises(method, error=error)
    trainer, saved = trainer_of("feedback", "adam"), fg.Checkpoints(tmp_path)
    csv = fg.callbacks.CSVLogger(tmp_path / "log.csv")
    callbacks = [raises, told, csv] if first else [told, csv, raises]
    with pytest.raises(type(error)) as caught:
        trainer.fit(blobs(), callbacks=callbacks, checkpoints=saved, **FIT)
    assert caught.value is error
    assert caught.value.__notes__ == [f"raised by the callback Raises.{method}"]
    # The step is whole: everybody was told of it, and its record is in every log.
    assert trainer.steps_done == 6
    assert (told.steps[-1], told.asked, told.records, told.ended) == (6, [3, 6], [3, 6], ["error"])
    assert lines(tmp_path) == [3, 6]
    rows = np.genfromtxt(tmp_path / "log.csv", delimiter=",", names=True)
    assert rows["step"].tolist() == [3, 6]
    alone = trainer_of("feedback", "adam")
    alone.fit(blobs(), **{**FIT, "steps": 6})
    assert bits(trainer) == bits(alone)
    # The exception of `ends` leaves the record undecided: it is made again.
    assert [path.name for path in saved.found()] == (
        [] if method == "ends" else ["step-000000000006.safetensors"]
    )
    again = trainer_of("feedback", "adam")
    history = again.fit(blobs(), callbacks=[Told(), csv], checkpoints=saved, resume=True, **FIT)
    assert (bits(again), [record.step for record in history.records]) == whole()
    rows = np.genfromtxt(tmp_path / "log.csv", delimiter=",", names=True)
    assert rows["step"].tolist() == [3, 6, 9, 12]


def test_a_run_without_checkpoints_goes_on_in_the_same_trainer():
    trainer = trainer_of("feedback", "adam")
    with pytest.raises(ValueError, match="mine"):
        trainer.fit(blobs(), callbacks=[Raises("on_step", 5)], **FIT)
    assert trainer.steps_done == 5
    trainer.fit(blobs(), **{**FIT, "steps": 7})
    assert bits(trainer) == whole()[0]


@pytest.mark.parametrize("method", ["on_start", "on_resume"])
def test_a_callback_that_raises_at_the_start(tmp_path, method):
    saved, told, never = fg.Checkpoints(tmp_path, every=3), Told(), Told()
    if method == "on_resume":
        trainer_of("feedback", "adam").fit(blobs(), checkpoints=saved, **{**FIT, "steps": 6})
    trainer = trainer_of("feedback", "adam")
    error = OSError(2, "no such place")
    with pytest.raises(OSError, match="no such place") as caught:
        trainer.fit(
            blobs(),
            callbacks=[told, Raises(method, error=error), never],
            checkpoints=saved,
            resume=method == "on_resume",
            **FIT,
        )
    assert caught.value.__notes__ == [f"raised by the callback Raises.{method}"]
    assert trainer.steps_done == (6 if method == "on_resume" else 0)
    assert (told.ended, never.ended) == (["error"], [])
    again = trainer_of("feedback", "adam")
    again.fit(blobs(), checkpoints=saved, resume=True, **FIT)
    assert bits(again) == whole()[0]


@pytest.mark.parametrize(
    "make", [lambda: RuntimeError("late"), lambda: SystemExit(3), lambda: OSError(28, "full")]
)
def test_a_callback_that_raises_at_the_end_keeps_nobody_from_hearing(tmp_path, make):
    error = make()
    told, saved = Told(), fg.Checkpoints(tmp_path)
    trainer = trainer_of("feedback", "adam")
    with pytest.raises(type(error)) as caught:
        trainer.fit(blobs(), callbacks=[Raises("on_end", error=error), told], checkpoints=saved, **FIT)
    assert caught.value.__notes__ == ["raised by the callback Raises.on_end"]
    assert told.ended == ["steps"]
    assert (bits(trainer), lines(tmp_path)) == whole()


def test_what_two_callbacks_raise_is_one_exception_that_names_both():
    with pytest.raises(ValueError, match="mine") as caught:
        trainer_of().fit(
            blobs(),
            callbacks=[Raises("on_record"), Raises("on_end", error=KeyError("other")), Told()],
            **FIT,
        )
    assert caught.value.__notes__ == [
        "raised by the callback Raises.on_record",
        "the callback Raises.on_end, too, raised KeyError: 'other'",
    ]


def test_a_divergence_takes_precedence_and_notes_what_callbacks_raised():
    model = fg.Sequential([fg.Flatten(), fg.Dense(9, activation="relu"), fg.Dense(3)], (4, 3, 2))
    trainer = fg.Trainer(model, optimizer=fg.SGD(1e30))
    with pytest.raises(fg.DivergenceError) as caught:
        trainer.fit(blobs(), callbacks=[Raises("on_end")], **FIT)
    assert caught.value.__notes__ == ["the callback Raises.on_end, too, raised ValueError: mine"]


def test_an_exception_that_is_no_error_ends_the_run_at_once(tmp_path):
    told, saved = Told(), fg.Checkpoints(tmp_path, every=2)
    trainer = trainer_of("feedback", "adam")
    with pytest.raises(SystemExit) as caught:
        trainer.fit(
            blobs(),
            callbacks=[Raises("on_step", 5, SystemExit(1)), told],
            checkpoints=saved,
            **FIT,
        )
    assert caught.value.__notes__ == ["raised by the callback Raises.on_step"]
    assert (trainer.steps_done, told.steps, told.ended) == (5, [1, 2, 3, 4], ["interrupt"])
    again = trainer_of("feedback", "adam")
    again.fit(blobs(), checkpoints=saved, resume=True, **FIT)
    assert bits(again) == whole()[0]
