"""Run folders: written completely or not at all, never over another one, and read back."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import RunError
from fgnumba.runs import run_folder, saved_run
from fgnumba.runs.configuration import RunConfig

CONFIG = RunConfig(layers=({"type": "dense", "units": 3},), steps=2)
RECORD = fg.Record(1, 0.5, 1.0, 1.1, 0.5, 0.1, 0.01)
RECORDS = [RECORD, replace(RECORD, step=2, loss=0.5)]
FACTS = {"input_shape": [5], "classes": 3}
COMMAND = [sys.executable, "-c", "from fgnumba.cli.main import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(fg.__file__).parent.parent)}


@pytest.fixture
def model():
    return fg.Sequential([fg.Dense(3)], 5)


def write(path, model, records=RECORDS, numbered=False):
    """Begin a run and end it; return where it is."""
    found = run_folder.begin(path, CONFIG, FACTS, numbered)
    run_folder.finish(found, CONFIG, model, records, FACTS)
    return found


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("prepare", [lambda path: None, Path.mkdir], ids=["absent", "empty"])
def test_what_is_written_is_read_back(tmp_path, model, prepare):
    path = tmp_path / "run"
    prepare(path)
    assert write(path, model) == path
    assert names(tmp_path) == ["run"]
    found = saved_run.read(path)
    assert (found.config, found.records) == (CONFIG, RECORDS)
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(found.model.parameters()[name], array)


def test_files_have_the_permissions_that_files_have(tmp_path, model):
    umask = os.umask(0)
    os.umask(umask)
    path = write(tmp_path / "run", model)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o666 & ~umask}


def test_a_run_without_a_name_takes_the_next_free_number(tmp_path, model):
    for expected in ("run-1", "run-2", "run-3"):
        assert write(tmp_path / "run-1", model, numbered=True) == tmp_path / expected


def test_a_name_that_is_taken_is_refused(tmp_path, model):
    write(tmp_path / "run", model)
    before = (tmp_path / "run" / "config.toml").read_bytes()
    with pytest.raises(RunError, match="cannot be written: Directory not empty"):
        run_folder.begin(tmp_path / "run", replace(CONFIG, steps=3), FACTS)
    assert names(tmp_path) == ["run"]
    assert (tmp_path / "run" / "config.toml").read_bytes() == before


def test_a_link_to_an_empty_folder_stays_one(tmp_path, model):
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write(tmp_path / "link", model)
    assert (tmp_path / "link").is_symlink()
    assert saved_run.read(tmp_path / "link").config == CONFIG
    assert names(tmp_path) == ["link", "target"]


def test_a_beginning_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "replace", fail)
    with pytest.raises(RunError, match="cannot be written: No space left on device"):
        run_folder.begin(tmp_path / "a" / "b" / "run", CONFIG, FACTS)
    assert names(tmp_path) == []


def test_numbers_that_json_lacks_become_null(tmp_path, model):
    path = write(tmp_path / "run", model, [replace(RECORD, test_loss=math.inf, loss=math.nan)])
    (line,) = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = json.loads(line, parse_constant=pytest.fail)
    assert (found["loss"], found["test_loss"], found["step"]) == (None, None, 1)


def test_destinations(tmp_path, monkeypatch):
    run_folder.check_destination(tmp_path / "new" / "run")
    (tmp_path / "empty").mkdir()
    run_folder.check_destination(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(RunError, match="the current folder or a mount point"):
        run_folder.check_destination(Path())


@pytest.mark.parametrize("key", ["input_shape", "classes"])
def test_a_configuration_without_its_run(tmp_path, model, key):
    path = write(tmp_path / "run", model)
    text = (path / "config.toml").read_text(encoding="utf-8")
    (path / "config.toml").write_text(text.replace(key, f"not_{key}"))
    with pytest.raises(RunError, match=rf"config.toml is damaged: \[run\] has no {key}"):
        saved_run.read(path)


def test_runs_side_by_side_take_a_name_each(tmp_path):
    arguments = ["train", "--steps", "400", "--directions", "2", "--quiet", "--seed"]
    runs = [
        subprocess.Popen([*COMMAND, *arguments, str(seed)], cwd=tmp_path, env=ENVIRONMENT)
        for seed in range(3)
    ]
    assert [run.wait() for run in runs] == [0, 0, 0]
    assert names(tmp_path / "runs") == ["digits-mlp-1", "digits-mlp-2", "digits-mlp-3"]
    seeds = {saved_run.read(path).config.seed for path in (tmp_path / "runs").iterdir()}
    assert seeds == {0, 1, 2}


def test_a_number_that_is_taken_in_the_meantime_is_counted_up(fgtrain, folder, monkeypatch):
    choose = run_folder.next_free
    lost: list[object] = []

    def choose_and_lose(base, name):
        path = choose(base, name)
        if not lost:
            lost.append(path)
            path.mkdir(parents=True)
            (path / run_folder.CONFIG).touch()
        return path

    monkeypatch.setattr(run_folder, "next_free", choose_and_lose)
    done = fgtrain("train", "--steps", 2, "--widths", 8, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert names(folder / "runs") == ["digits-mlp-1", "digits-mlp-2"]
    assert (folder / "runs/digits-mlp-2" / run_folder.MODEL).exists()


def test_a_run_knows_the_data_that_it_trained_on(fgtrain, folder, blobs):
    settings = ("--data", blobs, "--widths", 8, "--steps", 4, "--quiet")
    assert fgtrain("train", *settings, "--out", "run").code == 0
    facts = saved_run.read_unfinished(folder / "run")[1]
    assert facts[run_folder.DATA] == fg.datasets.load(blobs).digest
    assert fgtrain("evaluate", "run").err == ""
    (folder / "model").mkdir()
    (folder / "run/model.safetensors").rename(folder / "model/model.safetensors")
    arrays = dict(np.load(blobs))
    arrays["y_test"] = arrays["y_test"][::-1].copy()
    np.savez(folder / blobs, **arrays)
    # Also where there is no checkpoint yet, as in the first minutes of a run.
    error = fgtrain("train", "--resume", "run").error
    assert error.startswith(f"run: the data set {blobs} has changed since the run began; ")
    (folder / "model/model.safetensors").rename(folder / "run/model.safetensors")
    done = fgtrain("evaluate", "run", "--json")
    assert done.code == 0
    assert done.json()["n"] == 20
    changed = f"the data set {blobs} has changed since the run trained on it"
    assert done.err == f"run: {changed}; the result is of the changed data\n"
    # Others that are asked for are no surprise; and what a run of before does not know, it does not say.
    assert fgtrain("evaluate", "run", "--data", blobs).err == ""
    config = folder / "run/config.toml"
    kept = [line for line in config.read_text(encoding="utf-8").splitlines() if run_folder.DATA not in line]
    config.write_text("\n".join(kept))
    assert fgtrain("evaluate", "run").err == ""


def test_what_fails_before_a_run_has_begun_leaves_no_folder(fgtrain, folder, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("fgnumba.cli.run.Signals", fail)
        assert fgtrain("train", "--widths", 8, "--steps", 2, "--out", "run").code == 2
    assert list(folder.iterdir()) == []
    assert fgtrain("train", "--widths", 8, "--steps", 2, "--out", "run").code == 0
