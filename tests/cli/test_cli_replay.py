"""``fgtrain replay``: the parameters of a run are rebuilt from its seed and its log."""

import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import fgnumba as fg
from fgnumba.cli.main import main
from fgnumba.layers.parameters import digest

STATED = 40
SETTINGS = (
    *("--estimator", "weight-perturbation", "--directions", "3", "--widths", "24", "--batch-size", "32"),
    *("--learning-rate", "0.01", "--decay", "0.001", "--seed", "5", "--device", "cpu", "--quiet"),
)


@pytest.fixture(scope="session")
def logged_run(tmp_path_factory):
    """Return the folder of a run of 60 steps, and the parameters of one that ended after `STATED`."""
    folder = tmp_path_factory.mktemp("logged")
    for steps in (60, STATED):
        with pytest.raises(SystemExit) as caught:
            main(["train", *SETTINGS, "--steps", str(steps), "--out", str(folder / str(steps))])
        assert caught.value.code == 0
    return folder / "60", load_file(folder / str(STATED) / "model.safetensors")


@pytest.fixture
def run(logged_run, folder):
    """Return a copy of the run that a test may change."""
    return shutil.copytree(logged_run[0], folder / "run")


def test_the_last_step_is_the_trained_model(fgtrain, run):
    done = fgtrain("replay", "run")
    sha = digest(load_file(run / "model.safetensors"))
    assert done.out == f"step 60, sha256 {sha}, identical to model.safetensors\n"
    assert done.code == 0
    assert done.err.splitlines()[-1] == "replay 10/10: step 60"


def test_any_step_can_be_written(fgtrain, run, folder, logged_run):
    done = fgtrain("replay", "run", "--step", STATED, "--output", "stated.safetensors", "--quiet")
    assert (done.code, done.out, done.err) == (0, f"step 40, sha256 {digest(logged_run[1])}\n", "")
    found = load_file(folder / "stated.safetensors")
    assert set(found) == set(logged_run[1])
    for name, array in logged_run[1].items():
        np.testing.assert_array_equal(found[name], array)
    assert sorted(path.name for path in folder.iterdir()) == ["run", "stated.safetensors"]


def test_neither_data_nor_results_are_read(fgtrain, run, monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError("a replay needs no data")

    monkeypatch.setattr(fg.datasets, "load", refuse)
    sha = digest(load_file(run / "model.safetensors"))
    for name in ("metrics.jsonl", "model.safetensors", "loss.png"):
        (run / name).unlink()
    done = fgtrain("replay", "run", "--quiet")
    assert (done.code, done.out, done.err) == (0, f"step 60, sha256 {sha}\n", "")


def test_a_model_that_is_not_the_runs_is_found_out(fgtrain, run):
    parameters = load_file(run / "model.safetensors")
    parameters["1.bias"][3] = np.nextafter(parameters["1.bias"][3], np.float32(1))
    save_file(parameters, run / "model.safetensors")
    done = fgtrain("replay", "run", "--quiet")
    assert done.code == 1
    assert re.fullmatch(r"step 60, sha256 [0-9a-f]{64}, NOT those of model\.safetensors\n", done.out)
    # Before the last step there is nothing to compare with.
    assert fgtrain("replay", "run", "--quiet", "--step", STATED).code == 0


def test_a_torn_log_is_said_to_be_and_counts_up_to_there(fgtrain, run, logged_run):
    log = run / "replay.log"
    log.write_bytes(log.read_bytes()[:-3])
    done = fgtrain("replay", "run", "--step", STATED)
    sha = digest(logged_run[1])
    assert (done.code, done.out) == (0, f"step 40, sha256 {sha}\n")
    assert "is torn" in done.err.splitlines()[-1]
    assert done.err.splitlines()[-1].endswith("can be rebuilt up to step 54")
    # Its last step is not the model's.
    assert fgtrain("replay", "run").code == 1
    assert "is torn" in fgtrain("replay", "run", "--step", 55).error


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda run: None, ("--step", 61), "step 61 is beyond run/replay.log: it ends at step 60"),
        (lambda run: None, ("--step", -1), "step is -1"),
        (lambda run: None, ("--output", ""), "--output is empty"),
        (lambda run: None, ("--output", "no/such/file"), "no/such/file: there is no folder"),
        (lambda run: (run / "replay.log").unlink(), (), "run/replay.log is missing"),
        (lambda run: (run / "replay.log").write_bytes(b"PK"), (), "run/replay.log is no replay log"),
        (lambda run: (run / "config.toml").unlink(), (), "is not a run folder: config.toml is missing"),
        (lambda run: edit(run, "seed = 5", "seed = 6"), (), "is of another run: seed 5; here 6"),
        (lambda run: edit(run, "seed = 5", "seed = x"), (), "run/config.toml is damaged"),
        (lambda run: edit(run, '"sgd"', '"adam"'), (), "is of another run: its estimator"),
        (lambda run: edit(run, '"weight-perturbation"', '"spsa"'), (), "cannot be taken again"),
        (lambda run: edit(run, 'device = "cpu"', 'device = "tpu"'), (), "unknown device 'tpu'"),
        (lambda run: (run / "model.safetensors").write_bytes(b"12"), (), "model.safetensors is damaged"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(fgtrain, run, change, arguments, message):
    change(run)
    assert message in fgtrain("replay", "run", "--quiet", *arguments).error


def test_a_folder_that_is_none(fgtrain, folder):
    assert fgtrain("replay", "nowhere").error == "nowhere: no such folder; a run folder is required"


def edit(run, before, after):
    text = (run / "config.toml").read_text(encoding="utf-8")
    assert before in text
    (run / "config.toml").write_text(text.replace(before, after))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_that_diverged_replays_to_what_it_left(fgtrain, folder, optimizer):
    options = ("--optimizer", optimizer, "--steps", 400, "--batch-size", 512, "--learning-rate", 0.1)
    done = fgtrain(
        *("train", *SETTINGS[:6], *options, "--seed", 0, "--decay", 0),
        *("--stop-above", 1.5, "--out", "diverged", "--quiet"),
    )
    assert "are restored; they are in diverged" in done.error
    assert fgtrain("replay", "diverged").out.endswith(", identical to model.safetensors\n")
