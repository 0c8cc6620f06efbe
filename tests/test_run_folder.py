"""Run folders: written whole or not at all, never over another, and read back."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fgnumba as fg
from fgnumba import run_folder
from fgnumba.configuration import RunConfig
from fgnumba.errors import RunError

CONFIG = RunConfig(layers=({"type": "dense", "units": 3},), steps=2)
RECORD = fg.Record(1, 0.5, 1.0, 1.1, 0.5, 0.1, 0.01)
HISTORY = fg.History([RECORD, replace(RECORD, step=2, loss=0.5)])
COMMAND = [sys.executable, "-c", "from fgnumba.cli.main import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(fg.__file__).parent.parent)}


@pytest.fixture
def model():
    return fg.Sequential([fg.Dense(3)], 5)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("prepare", [lambda path: None, Path.mkdir], ids=["absent", "empty"])
def test_what_is_written_is_read_back(tmp_path, model, prepare):
    path = tmp_path / "run"
    prepare(path)
    assert run_folder.write(path, CONFIG, model, HISTORY) == path
    assert names(tmp_path) == ["run"]
    found = run_folder.read(path)
    assert (found.config, found.records) == (CONFIG, HISTORY.records)
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(found.model.parameters()[name], array)


def test_files_have_the_permissions_that_files_have(tmp_path, model):
    umask = os.umask(0)
    os.umask(umask)
    path = run_folder.write(tmp_path / "run", CONFIG, model, HISTORY)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o666 & ~umask}


def test_a_run_that_finds_its_name_taken_is_not_lost(tmp_path, model):
    for expected in ("run-1", "run-2", "run-3"):
        path = run_folder.write(tmp_path / "run-1", CONFIG, model, HISTORY, numbered=True)
        assert path == tmp_path / expected
    # A name that its user chose is kept whole.
    assert run_folder.write(tmp_path / "run-1", CONFIG, model, HISTORY) == tmp_path / "run-1-1"


def test_a_link_to_an_empty_folder_stays_one(tmp_path, model):
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    run_folder.write(tmp_path / "link", CONFIG, model, HISTORY)
    assert (tmp_path / "link").is_symlink()
    assert run_folder.read(tmp_path / "link").config == CONFIG
    assert names(tmp_path) == ["link", "target"]


def test_a_failure_leaves_nothing(tmp_path, model, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "draw", fail)
    with pytest.raises(RunError, match="cannot be written: No space left on device"):
        run_folder.write(tmp_path / "a" / "b" / "run", CONFIG, model, HISTORY)
    assert names(tmp_path) == []


def test_numbers_that_json_lacks_become_null(tmp_path, model):
    history = fg.History([replace(RECORD, test_loss=math.inf, loss=math.nan)])
    path = run_folder.write(tmp_path / "run", CONFIG, model, history)
    (line,) = (path / "metrics.jsonl").read_text().splitlines()
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
    path = run_folder.write(tmp_path / "run", CONFIG, model, HISTORY)
    text = (path / "config.toml").read_text()
    (path / "config.toml").write_text(text.replace(key, f"not_{key}"))
    with pytest.raises(RunError, match=rf"config.toml is damaged: \[run\] has no {key}"):
        run_folder.read(path)


def test_runs_side_by_side_take_a_name_each(tmp_path):
    arguments = ["train", "--steps", "400", "--directions", "2", "--quiet", "--seed"]
    runs = [
        subprocess.Popen([*COMMAND, *arguments, str(seed)], cwd=tmp_path, env=ENVIRONMENT)
        for seed in range(3)
    ]
    assert [run.wait() for run in runs] == [0, 0, 0]
    assert names(tmp_path / "runs") == ["digits-mlp-1", "digits-mlp-2", "digits-mlp-3"]
    seeds = {run_folder.read(path).config.seed for path in (tmp_path / "runs").iterdir()}
    assert seeds == {0, 1, 2}


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_an_interrupted_run_leaves_nothing(tmp_path):
    # A background job's children begin with SIGINT ignored.
    heeds = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    process = subprocess.Popen(
        [sys.executable, "-c", heeds + COMMAND[2], "train", "--steps", str(1 << 32)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    # Its title: training begins.
    assert "parameters" in process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert names(tmp_path) == []
