"""Runs of Weights & Biases: what its module is called with, offline runs of wandb itself, and runs of Trackio."""

import sys
from types import ModuleType

import pytest

import fgnumba as fg
from fgnumba.errors import ConfigError
from tests.training.loggers.runs import Stops, expected, fit, in_parts


class Run:
    """A run of a module with W&B's functions: it keeps what it is told."""

    def __init__(self, given):
        self.given, self.logged, self.status = given, [], None

    def log(self, values, step=None):
        self.logged.append((step, values))

    def finish(self, exit_code=None):
        self.status = exit_code


@pytest.fixture
def runs(monkeypatch):
    """Return the runs of a module called `likewandb`, which keeps them."""
    module, begun = ModuleType("likewandb"), []

    def init(project=None, name=None, id=None, config=None, dir=None, resume=None, mode=None):  # noqa: A002
        begun.append(Run(locals()))
        return begun[-1]

    module.init = init  # type: ignore[attr-defined]
    module.__spec__ = sys.__spec__
    monkeypatch.setitem(sys.modules, "likewandb", module)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    return begun


def merged(runs):
    """Return the figures of each step by name; no figure may be logged twice."""
    logged: dict[int, dict[str, float]] = {}
    for run in runs:
        for step, values in run.logged:
            known = logged.setdefault(step, {})
            assert not known.keys() & values.keys() - {"seconds"}, step
            known.update(values)
    return {step: {k: v for k, v in values.items() if k != "seconds"} for step, values in logged.items()}


def logger(folder, **options):
    return fg.callbacks.WeightsAndBiases(folder=folder, module="likewandb", **options)


def test_a_run(tmp_path, runs):
    history = fit(logger(tmp_path, project="mine"))
    (run,) = runs
    assert merged(runs) == expected(history)
    assert run.given["project"] == "mine"
    assert run.given["id"] == run.given["name"]
    assert run.given["config"]["batch_size"] == 16
    assert (run.given["resume"], run.status) == ("never", 0)


@pytest.mark.parametrize("disturbed", [False, True])
def test_a_run_in_parts_has_each_step_once_under_one_name(tmp_path, runs, disturbed):
    history = in_parts(lambda: logger(tmp_path / "w"), tmp_path / "run", disturbed)
    first, second = runs
    assert first.given["id"] == second.given["id"]
    assert second.given["resume"] == "allow"
    assert merged(runs) == expected(history)


def test_a_run_that_fails_has_a_status(tmp_path, runs):
    with pytest.raises(ValueError, match="mine"):
        fit(logger(tmp_path), Stops(4, ValueError("mine")))
    assert runs[0].status == 1


@pytest.mark.parametrize(
    ("key", "variable", "given", "mode"),
    [
        (None, None, None, "offline"),
        ("k", None, None, "online"),
        ("k", None, "offline", "offline"),
        (None, "disabled", None, None),
        (None, "disabled", "online", "online"),
    ],
)
def test_nothing_is_sent_without_a_key(tmp_path, monkeypatch, key, variable, given, mode):
    pytest.importorskip("wandb")
    import wandb

    for name, value in (("WANDB_API_KEY", key), ("WANDB_MODE", variable)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    seen = []

    def init(**options):
        seen.append(options)
        return Run(options)

    monkeypatch.setattr(wandb, "init", init)
    fit(fg.callbacks.WeightsAndBiases(folder=tmp_path, mode=given))
    assert seen[0].get("mode") == mode


def test_a_server_that_is_away_costs_no_run(tmp_path, runs, monkeypatch):
    def away(self, values, step=None):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(Run, "log", away)
    said: list[str] = []
    assert fit(logger(tmp_path, warn=said.append)).ended_by == "steps"
    assert said == ["WeightsAndBiases logs no more, training goes on: ConnectionError: no route to host"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "on"}, "mode is 'on'; online, offline, disabled or None is required"),
        ({"project": ""}, "project is ''; a name is required"),
        ({"module": "no_such_module"}, "needs no_such_module: pip install no_such_module"),
        ({"module": "no.such"}, "needs no.such: pip install no.such"),
        ({"module": 3}, "module is 3"),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        fg.callbacks.WeightsAndBiases(**{"module": "json", **options})


@pytest.mark.filterwarnings("ignore")
def test_an_offline_run_of_wandb(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    said: list[str] = []
    fit(fg.callbacks.WeightsAndBiases(folder=tmp_path, warn=said.append))
    assert said == []
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert list(run.glob("run-*.wandb"))


@pytest.mark.filterwarnings("ignore")
def test_a_run_of_trackio(tmp_path):
    pytest.importorskip("trackio")
    import os
    import subprocess
    from pathlib import Path

    from tests.places import ROOT

    program = """
from pathlib import Path
import fgnumba as fg
from tests.training.loggers.runs import in_parts, expected
said = []
make = lambda: fg.callbacks.WeightsAndBiases("mine", "w", module="trackio", warn=said.append)
history = in_parts(make, Path("run"), True)
assert not said, said
import trackio
(run,) = trackio.Api().runs("mine")
from trackio.sqlite_storage import SQLiteStorage
rows = SQLiteStorage.get_logs("mine", run.name)
assert [row["step"] for row in rows if "loss" in row] == [3, 6, 9, 12], rows
by_step = {}
for row in rows:
    by_step.setdefault(row["step"], {}).update(row)
for step, values in expected(history).items():
    for name, value in values.items():
        assert by_step[step][name] == value, (step, name)
"""
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert Path(tmp_path / "trackio").is_dir()
