"""Copies of the parts of trainers, models and runs."""

import math
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import fgnumba as fg
from tests.state_machine.settings import Batch, Data
from tests.state_machine.subject import Subject, duplicates, require


def _model(subject: Subject, batch: Batch, twice: Callable[[Any], Any]) -> None:
    """Have a copy of a model say the same, and go its own way."""
    x, _ = subject.given(batch)
    expected = subject.model(x).tobytes()
    other = twice(subject.model)
    require(other(x).tobytes() == expected, "a copy of a model says something else")
    other.load_parameters({name: array + 1 for name, array in other.parameters().items()})
    require(subject.model(x).tobytes() == expected, "a copy of a model is the model")


def _plan(subject: Subject, batch: Batch, twice: Callable[[Any], Any]) -> None:
    """Have a copy of a plan run in memory of its own, or refused."""
    x = batch.x(subject.recipe.network.shape)
    model = subject.recipe.build().model
    expected, plan = model(x).tobytes(), model.plan(len(x))
    try:
        other = twice(plan)
    except fg.FgError:
        return
    require(str(other) == str(plan), "a copy of a plan says something else")
    plan.output[0][...] = math.nan
    del plan, model
    other.run(x)
    found = np.ascontiguousarray(other.output[0][:, : subject.recipe.network.outputs])
    require(found.tobytes() == expected, "a copy of a plan runs elsewhere")


def _estimate(subject: Subject, batch: Batch, twice: Callable[[Any], Any]) -> None:
    """Have a copy of a bound estimate refused: it belongs to its trainer."""
    try:
        twice(subject.trainer.bind(batch.size))
    except fg.FgError:
        return
    raise AssertionError("a bound estimate was copied without its trainer")


def _equal(make: Callable[[Subject, Batch], Any]) -> Callable[..., None]:
    def check(subject: Subject, batch: Batch, twice: Callable[[Any], Any]) -> None:
        thing = make(subject, batch)
        other = twice(thing)
        require(type(other) is type(thing), f"a copy of a {type(thing).__name__} is a {type(other).__name__}")
        require(repr(other) == repr(thing), f"a copy of {thing!r} is {other!r}")

    return check


def _callback(subject: Subject, batch: Batch, twice: Callable[[Any], Any]) -> None:
    """Have a copy of early stopping go on from where it is, and apart."""
    stopping = fg.callbacks.EarlyStopping(2)
    stopping.ends(fg.Record(1, 0.5, 1.0, validation_accuracy=0.5))
    other = twice(stopping)
    require(other.state == stopping.state, "a copy of early stopping has seen something else")
    for step in (2, 3):
        other.ends(fg.Record(step, 1.0, 1.0, validation_accuracy=0.1))
    require((other.waited, stopping.waited) == (2, 0), "a copy of early stopping is not apart")


def _data(subject: Subject, batch: Batch, twice: Callable[[Any], Any]) -> None:
    """Have a copy of a data set hold the same, in the same order."""
    data = Data(batch.seed, 5).build(subject.recipe.network)
    other = twice(data)
    require(other.digest == data.digest, "a copy of a data set holds something else")
    require((other.order(1, 2) == data.order(1, 2)).all(), "a copy of a data set has another order")


def _checkpoints(subject: Subject, batch: Batch, twice: Callable[[Any], Any]) -> None:
    """Have a copy of checkpoints keep in the same folder, or refused."""
    with tempfile.TemporaryDirectory() as folder:
        kept = fg.Checkpoints(folder, every=2, minutes=None)
        try:
            other = twice(kept)
        except fg.FgError:
            return
        require(other.folder == kept.folder and other.every == kept.every, "checkpoints are not the same")
        trainer = subject.recipe.build()
        data = Data(batch.seed, 5).build(subject.recipe.network)
        try:
            trainer.fit(data, steps=3, batch_size=2, checkpoints=other)
        except fg.DivergenceError:
            return
        require(other.saved_step == 3 and kept.saved_step == 0, "a copy of checkpoints is not apart")


def _error(subject: Subject, batch: Batch, twice: Callable[[Any], Any]) -> None:
    """Errors travel between processes."""
    error = fg.DivergenceError("too large", False, None)
    other = twice(error)
    require(
        (str(other), other.kept, type(other)) == (str(error), False, type(error)),
        "a copy of an error differs",
    )


def _history(subject: Subject, batch: Batch) -> Any:
    trainer = subject.recipe.build()
    data = Data(batch.seed, 5).build(subject.recipe.network)
    try:
        return trainer.fit(data, steps=2, batch_size=2, evaluate_every=1)
    except fg.DivergenceError:
        return fg.History()


PARTS: dict[str, Callable[..., None]] = {
    "model": _model,
    "plan": _plan,
    "estimate": _estimate,
    "early stopping": _callback,
    "data": _data,
    "checkpoints": _checkpoints,
    "error": _error,
    "history": _equal(_history),
    "estimator": _equal(lambda subject, batch: subject.recipe.estimator.build()),
    "optimizer": _equal(lambda subject, batch: subject.recipe.optimizer.build()),
    "direction": _equal(lambda subject, batch: fg.directions.Gaussian(3, 2, 1)),
    "result": _equal(lambda subject, batch: fg.StepResult(1.0, np.arange(3.0))),
}


def duplicate_part(subject: Subject, part: str, way: str, batch: Batch) -> None:
    """Copy a part in one of the ways."""
    PARTS[part](subject, batch, duplicates()[way])
