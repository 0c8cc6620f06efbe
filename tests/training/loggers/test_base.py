"""Loggers in general: what they are given, and that one that fails costs no run."""

import contextlib
import re

import pytest

import fgnumba as fg
from fgnumba.callbacks import Logger
from fgnumba.errors import ConfigError
from fgnumba.training.loggers import base
from tests.training.loggers.runs import NAMES, STEPS, TESTED, Stops, fit
from tests.training.test_copies import blobs


class Memory(Logger):
    """Logs into a list, and fails where it is told to."""

    def __init__(self, fails=(), error=None, warn=None):
        super().__init__(warn)
        self.fails, self.error, self.calls = fails, error or OSError(28, "No space left on device"), []

    def _call(self, name, *values):
        self.calls.append((name, *values))
        if name in self.fails:
            raise self.error

    def begin(self, settings, done):
        self._call("begin", dict(settings), done)

    def write(self, step, values):
        self._call("write", step, dict(values))

    def drop(self, step):
        self._call("drop", step)

    def finish(self, ended_by):
        self._call("finish", ended_by)


def test_what_a_logger_is_given():
    memory = Memory()
    history = fit(memory)
    begin, *writes, finish = memory.calls
    settings = begin[1]
    assert settings["batch_size"] == 16
    assert settings["seed"] == 1
    assert settings["steps"] == 12
    assert settings["optimizer"].startswith("Adam(")
    assert settings["estimator"].startswith("ActivityPerturbation(")
    assert "Conv2d" in settings["model"]
    assert settings["parameters"] > 0
    assert begin[2] == 0
    assert [write[1] for write in writes] == STEPS
    assert [write[2].keys() for write in writes] == [NAMES] * 3 + [NAMES | TESTED]
    for write, record in zip(writes, history.records, strict=True):
        for name, value in write[2].items():
            assert value == getattr(record, name)
    assert finish == ("finish", "steps")


@pytest.mark.parametrize("part", ["begin", "write", "finish"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ConnectionError("server is away")])
def test_a_logger_that_fails_costs_no_run_and_says_so_once(part, error):
    said: list[str] = []
    memory = Memory((part,), error, warn=said.append)
    assert fit(memory).ended_by == "steps"
    (line,) = said
    assert re.fullmatch(
        r"Memory logs no more, training goes on: (OSError: No space left on device|ConnectionError: server is away)",
        line,
    )
    assert [call[0] for call in memory.calls].count(part) == 1
    # It is tried again by the next run.
    memory.fails = ()
    memory.calls.clear()
    fit(memory)
    assert len(memory.calls) == 6


def test_a_failure_is_a_warning_where_nobody_listens():
    with pytest.warns(RuntimeWarning, match="^Memory logs no more, training goes on: OSError: No space"):
        fit(Memory(("write",)))


def test_an_interrupt_is_no_failure_of_a_logger():
    memory = Memory(("write",), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fit(memory)


@pytest.mark.parametrize(
    ("stop", "reason"), [(Stops(4), "stop"), (Stops(4, ValueError("x")), "error"), (Stops(99), "steps")]
)
def test_a_log_is_closed_whatever_ends_the_run(stop, reason):
    memory = Memory()
    with contextlib.suppress(ValueError):
        fit(memory, stop)
    assert memory.calls[-1] == ("finish", reason)


def test_a_run_that_diverges_is_logged_as_what_it_left():
    """The figures on the test data are measured when the record has been logged."""
    model = fg.Sequential([fg.Flatten(), fg.Dense(9, activation="relu"), fg.Dense(3)], (4, 3, 2), seed=1)
    optimizer = fg.SGD(lambda step: 1e-3 if step < 7 else 1e30)
    memory = Memory()
    with pytest.raises(fg.DivergenceError):
        fg.Trainer(model, optimizer=optimizer).fit(
            blobs(), steps=20, batch_size=16, evaluate_every=3, callbacks=[memory]
        )
    logged: dict[int, dict[str, float]] = {}
    for call in memory.calls:
        if call[0] == "write":
            logged.setdefault(call[1], {}).update(call[2])
        elif call[0] == "drop":
            logged = {step: values for step, values in logged.items() if step <= call[1]}
    assert max(logged) == memory.calls[-2][1]
    assert logged[max(logged)].keys() >= TESTED
    assert memory.calls[-1] == ("finish", "divergence")


def test_a_package_that_is_missing_is_a_line(monkeypatch):
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    for make, module, extra in (
        (lambda: fg.callbacks.TensorBoard("x"), "tensorboardX", "tensorboard"),
        (lambda: fg.callbacks.MLflow("x"), "mlflow", "mlflow"),
        (lambda: fg.callbacks.WeightsAndBiases(), "wandb", "wandb"),
    ):
        with pytest.raises(ConfigError, match=rf"needs {module}: pip install 'fgnumba\[{extra}\]'"):
            make()
