"""`fgtrain train --logger`: files in the run folder, which a resumption goes on with."""

import csv
import json
import tomllib

import pytest

from fgnumba.runs import loggers, run_folder
from fgnumba.training.loggers import base
from tests.fault_runs import killed, start

TRAIN = ("train", "--steps", 12, "--widths", 8, "--quiet", "--checkpoint-every", 4)


def rows(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def facts(run):
    return tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))["run"]


def test_a_csv_file_in_the_run_folder(fgtrain, folder):
    assert fgtrain(*TRAIN, "--logger", "csv", "--logger", "csv", "--out", "run").code == 0
    run = folder / "run"
    assert facts(run)["logger"] == ["csv"]
    found = rows(run / "log.csv")
    assert [(int(row["step"]), float(row["loss"])) for row in found] == [
        (record["step"], record["loss"]) for record in records(run)
    ]
    assert float(found[-1]["test_accuracy"]) == records(run)[-1]["test_accuracy"]
    assert json.loads((run / "log.settings.json").read_text(encoding="utf-8"))["batch_size"] == 64


def test_without_loggers_there_are_none(fgtrain, folder):
    assert fgtrain(*TRAIN, "--out", "run").code == 0
    assert "logger" not in facts(folder / "run")
    assert not (folder / "run" / "log.csv").exists()


def test_a_resumed_run_goes_on_with_its_loggers(fgtrain, folder):
    pytest.importorskip("tensorboardX")
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    options = ("--logger", "csv", "--logger", "tensorboard")
    killed(start(*TRAIN, *options, "--out", "run", cwd=folder, hold=8))
    run = folder / "run"
    assert len(rows(run / "log.csv")) < 12
    assert fgtrain("train", "--resume", "run", "--quiet").code == 0
    expected = [record["step"] for record in records(run)]
    assert [int(row["step"]) for row in rows(run / "log.csv")] == expected
    found = accumulators.EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    assert [event.step for event in found.Scalars("loss")] == expected
    assert facts(run)["logger"] == ["csv", "tensorboard"]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_in_the_run_folder(fgtrain, folder):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    assert fgtrain(*TRAIN, "--logger", "mlflow", "--out", "run").code == 0
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/run/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("fgnumba")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [metric.step for metric in history] == [record["step"] for record in records(folder / "run")]
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert [path.name for path in folder.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "tensorboardX"), ("mlflow", "mlflow"), ("wandb", "wandb")]
)
def test_a_package_that_is_missing_is_a_line_before_the_run(fgtrain, folder, monkeypatch, name, module):
    monkeypatch.setattr(base, "find_spec", lambda wanted: None if wanted == module else True)
    done = fgtrain(*TRAIN, "--logger", name, "--out", "run")
    assert done.error == f"logger {name} needs {module}: pip install 'fgnumba[{name}]'"
    assert not (folder / "run").exists()


def test_loggers_that_cannot_be(fgtrain, folder):
    done = fgtrain(*TRAIN, "--logger", "tensorbord", "--out", "run")
    assert done.error == "logger: unknown logger 'tensorbord' (did you mean 'tensorboard'?)"
    assert not (folder / "run").exists()


def test_a_resumption_keeps_the_loggers_that_it_began_with(fgtrain, folder):
    killed(start(*TRAIN, "--out", "run", cwd=folder, hold=8))
    done = fgtrain("train", "--resume", "run", "--logger", "csv")
    assert "--logger and --resume are both given" in done.err
    config = folder / "run" / "config.toml"
    config.write_text(config.read_text(encoding="utf-8") + 'logger = "csv"\n', encoding="utf-8")
    assert fgtrain("train", "--resume", "run").error == "logger is 'csv'; a list of names is required"


def test_a_logger_that_fails_costs_no_run(fgtrain, folder, monkeypatch):
    def no_room(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fgnumba.training.loggers.csv_file.replace", no_room)
    done = fgtrain(*TRAIN, "--logger", "csv", "--out", "run")
    assert done.code == 0
    assert (folder / "run" / "model.safetensors").exists()
    assert done.err.count("CSVLogger logs no more, training goes on: OSError: No space left on device") == 1


def test_a_run_that_is_written_elsewhere_takes_its_logs_along(fgtrain, folder, monkeypatch):
    # The name of a logger is refused without its package, whatever stands behind the name.
    pytest.importorskip("tensorboardX")
    write_end = run_folder._write_end

    def full(place, *rest):
        if place.name == "run":
            raise OSError(28, "No space left on device")
        (folder / "run" / "tensorboard").mkdir()
        (folder / "run" / "tensorboard" / "events").write_bytes(b"events")
        write_end(place, *rest)

    monkeypatch.setattr(run_folder, "_write_end", full)
    monkeypatch.setattr(loggers, "LOGGERS", {**loggers.LOGGERS, "tensorboard": loggers.LOGGERS["csv"]})
    done = fgtrain(*TRAIN, "--logger", "csv", "--logger", "tensorboard", "--out", "run")
    assert done.code == 2
    assert done.error.endswith(f"the run that has ended is in {folder / 'run-1'}")
    for name in ("log.csv", "log.settings.json", "tensorboard/events"):
        assert (folder / "run-1" / name).read_bytes() == (folder / "run" / name).read_bytes()
    assert [int(row["step"]) for row in rows(folder / "run-1" / "log.csv")] == [
        record["step"] for record in records(folder / "run-1")
    ]


def test_logs_that_cannot_be_taken_along_are_said(tmp_path, monkeypatch):
    def no_room(source, copy):
        copy.write_bytes(b"a part")
        raise OSError(28, "No space left on device")

    (tmp_path / "run").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "run" / "log.csv").write_text("step")
    monkeypatch.setattr(loggers.shutil, "copyfile", no_room)
    said: list[str] = []
    loggers.copy_logs(["csv", "mlflow"], tmp_path / "run", tmp_path / "other", said.append)
    assert said == [
        f"{tmp_path / 'run' / 'log.csv'} is not copied to {tmp_path / 'other'}: No space left on device"
    ]
    assert list((tmp_path / "other").iterdir()) == []
