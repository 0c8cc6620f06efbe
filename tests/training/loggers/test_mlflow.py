"""Runs of MLflow, read back from its database by its own client."""

import os
import shutil
import subprocess
import sys

import pytest

import fgnumba as fg
from fgnumba.errors import ConfigError, RunError
from tests.training.loggers.runs import Stops, expected, fit, in_parts

pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")
# MLflow and its database tools warn of their own future, and leave connections to the collector.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Return a database without runs: MLflow takes seconds to create one."""
    folder = tmp_path_factory.mktemp("database")
    fg.callbacks.MLflow(folder)._connected().search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def store(tmp_path, database):
    """Return a folder with a database of its own."""
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copy(database, folder)
    return folder


def read(folder):
    """Return the one run in a folder's database, and the figures of each step by name."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.absolute()}/mlflow.db")
    experiment = client.get_experiment_by_name("fgnumba")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    logged: dict[int, dict[str, float]] = {}
    for name in run.data.metrics:
        history = client.get_metric_history(run.info.run_id, name)
        assert len({metric.step for metric in history}) == len(history), name
        for metric in history:
            if name != "seconds":
                logged.setdefault(metric.step, {})[name] = metric.value
    return run, logged


@pytest.mark.parametrize("disturbed", [False, True])
def test_a_run_in_parts_is_one_run(tmp_path, store, disturbed):
    history = in_parts(lambda: fg.callbacks.MLflow(store), tmp_path / "run", disturbed)
    run, logged = read(store)
    assert logged == expected(history)
    assert run.info.status == "FINISHED"
    assert run.data.params["batch_size"] == "16"
    assert run.data.params["optimizer"].startswith("Adam(")


@pytest.mark.parametrize("name", ["per%20cent", "what?mode=ro"])
def test_a_folder_that_a_uri_cannot_name_costs_no_run_and_no_time(tmp_path, name):
    said: list[str] = []
    history = fit(fg.callbacks.MLflow(tmp_path / name, warn=said.append))
    assert history.ended_by == "steps"
    (line,) = said
    assert line.startswith("MLflow logs no more, training goes on: ConfigError: store is ")
    assert line.endswith("a folder whose path has no ? and no % before digits is required")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_with_other_signs(tmp_path, database):
    folder = tmp_path / "100% #1 & [x]"
    folder.mkdir(parents=True)
    shutil.copy(database, folder)
    fit(fg.callbacks.MLflow(folder, warn=pytest.fail))
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert read(folder)[0].info.status == "FINISHED"


def test_a_run_that_fails_says_so(store):
    with pytest.raises(ValueError, match="mine"):
        fit(fg.callbacks.MLflow(store, run_name="here"), Stops(4, ValueError("mine")))
    run, logged = read(store)
    assert (run.info.status, run.info.run_name, list(logged)) == ("FAILED", "here", [3])


def test_a_server_that_is_away_costs_no_run(store, monkeypatch):
    from mlflow.tracking import MlflowClient

    said: list[str] = []

    def away(*arguments, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(MlflowClient, "log_batch", away)
    history = fit(fg.callbacks.MLflow(store, warn=said.append))
    assert history.ended_by == "steps"
    assert said == ["MLflow logs no more, training goes on: ConnectionError: no route to host"]


def test_a_state_that_cannot_be():
    with pytest.raises(ConfigError, match="run_id is 7, which is impossible"):
        fg.callbacks.MLflow("x").state = {"run_id": 7}


def test_another_experiment_is_refused_when_a_run_is_resumed(tmp_path, store):
    fit(fg.callbacks.MLflow(store), Stops(7), folder=tmp_path / "run")
    with pytest.raises(RunError, match="MLflow is 'experiment fgnumba'; the run that continues has 'experi"):
        fit(fg.callbacks.MLflow(store, "other"), folder=tmp_path / "run", resume=True)


@pytest.mark.parametrize("options", [{"experiment": ""}, {"experiment": 3}, {"run_name": ""}])
def test_what_cannot_be(options):
    with pytest.raises(ConfigError, match="a name is required"):
        fg.callbacks.MLflow("x", **options)


def test_telemetry_is_off_and_the_environment_is_as_before(tmp_path):
    program = """
import os
import fgnumba as fg
before = dict(os.environ)
logger = fg.callbacks.MLflow("store")
logger.begin({"seed": 1}, 0)
logger.finish("steps")
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
changed = {name for name in before.keys() | os.environ.keys() if before.get(name) != os.environ.get(name)}
assert not [name for name in changed if "TELEMETRY" in name], changed
"""
    # Where these are set, MLflow takes the process for a test and sends nothing by itself.
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS")
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
