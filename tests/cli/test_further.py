"""A run that has ended and is trained further: the same bits as a run that was longer from the beginning."""

import json
import shutil
import tomllib

import numpy as np
import pytest

from fgnumba.runs import run_folder
from tests.fault_runs import KINDS, in_process
from tests.places import DATA

SHORT, LONG = 20, 50
DECAY = 4 / SHORT
"""What a run of `SHORT` steps decays by without being told."""
OPTIMIZERS = {
    "sgd": (),
    "adam": ("--optimizer", "adam"),
    "momentum": ("--optimizer", "sgd", "--momentum", "0.9"),
}


def train(fgtrain, *options):
    done = fgtrain("train", "--widths", 16, *options)
    assert done.code == 0, done.err
    return done


def model(path):
    return (path / "model.safetensors").read_bytes()


def records(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("options", [*KINDS.values(), *OPTIMIZERS.values()], ids=[*KINDS, *OPTIMIZERS])
def test_the_result_is_that_of_a_longer_run(fgtrain, folder, options):
    train(fgtrain, *options, "--steps", SHORT, "--out", "run", "--quiet")
    train(fgtrain, *options, "--steps", LONG, "--decay", DECAY, "--out", "long", "--quiet")
    before = records(folder / "run")
    done = fgtrain("train", "--resume", "run", "--steps", LONG)
    assert done.code == 0, done.err
    assert (
        f"run is trained further, from step {SHORT} to {LONG}, with the decay of its learning rate"
        in done.err
    )
    assert f"after {LONG} steps" in done.out
    assert model(folder / "run") == model(folder / "long")
    assert records(folder / "run")[: len(before)] == before
    assert sorted(path.name for path in (folder / "run").iterdir()) == sorted(
        path.name for path in (folder / "long").iterdir()
    )
    config = tomllib.loads((folder / "run" / "config.toml").read_text(encoding="utf-8"))
    assert (config["steps"], config["decay"]) == (LONG, DECAY)
    if (folder / "run" / "replay.log").exists():
        assert in_process("replay", "run", "--quiet")[0] == 0
    # And once more.
    train(fgtrain, "--steps", LONG + 10, *options, "--decay", DECAY, "--out", "longer", "--quiet")
    assert fgtrain("train", "--resume", "run", "--steps", LONG + 10, "--quiet").code == 0
    assert model(folder / "run") == model(folder / "longer")


def test_epochs_count_from_the_beginning(fgtrain, folder, blobs):
    options = ("--data", blobs, "--batch-size", 20)
    train(fgtrain, *options, "--epochs", 2, "--out", "run", "--quiet")
    assert fgtrain("train", "--resume", "run", "--epochs", 5, "--quiet").code == 0
    train(fgtrain, *options, "--epochs", 5, "--decay", 4 / 6, "--out", "long", "--quiet")
    assert model(folder / "run") == model(folder / "long")
    assert records(folder / "run")[-1]["step"] == 15


def test_a_run_that_patience_ended_waits_anew(fgtrain, folder):
    options = (
        "--patience",
        2,
        "--validation",
        0.3,
        "--learning-rate",
        1e-30,
        "--estimator",
        "weight-perturbation",
    )
    train(fgtrain, *options, "--steps", 60, "--restore-best", "--out", "run", "--quiet")
    ended = records(folder / "run")[-1]["step"]
    assert ended < 60
    done = fgtrain("train", "--resume", "run", "--steps", 61, "--json")
    assert "its patience begins anew" in done.err
    # Nothing gets better at such a rate: two more records, and it ends again.
    assert done.json()["ended_by"] == "callback"
    after = [record["step"] for record in records(folder / "run") if record["step"] > ended]
    assert len(after) == 2
    config = tomllib.loads((folder / "run" / "config.toml").read_text(encoding="utf-8"))
    assert config["run"]["restored_step"] < ended


def test_an_interrupted_run_gets_longer(fgtrain, folder, monkeypatch):
    options = ("--checkpoint-every", 10, "--out", "run", "--quiet")
    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        fgtrain("train", "--widths", 16, "--steps", SHORT, *options)
    assert not (folder / "run" / "model.safetensors").exists()
    error = fgtrain("train", "--resume", "run", "--steps", 5).error
    assert error == f"run has taken {SHORT} steps; --steps of at least {SHORT} is required"
    assert fgtrain("train", "--resume", "run", "--steps", LONG, "--quiet").code == 0
    train(fgtrain, "--steps", LONG, "--decay", DECAY, "--out", "long", "--quiet")
    assert model(folder / "run") == model(folder / "long")


@pytest.mark.parametrize("moment", ["reopened", "model removed"])
def test_a_crash_before_the_first_further_step_loses_nothing(fgtrain, folder, monkeypatch, moment):
    train(fgtrain, "--steps", SHORT, "--out", "run", "--quiet")
    before = model(folder / "run")
    state, checkpoint = (
        folder / "run/state.safetensors",
        folder / f"run/checkpoints/step-{SHORT:012}.safetensors",
    )
    checkpoint.parent.mkdir()
    state.rename(checkpoint)
    if moment == "model removed":
        (folder / "run" / "model.safetensors").unlink()
    assert fgtrain("train", "--resume", "run", "--quiet").code == 0
    assert model(folder / "run") == before
    assert state.exists()
    assert not checkpoint.parent.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: None, "run has taken 20 steps; --steps above 20 train it further"),
        (lambda run: (run / "state.safetensors").unlink(), "run has ended without state.safetensors"),
        (lambda run: (run / "state.safetensors").write_bytes(b"x"), "run/state.safetensors is damaged"),
        (
            lambda run: (run / "config.toml").write_text(
                (run / "config.toml").read_text(encoding="utf-8").replace("seed = 0", "seed = 1"),
                encoding="utf-8",
            ),
            "seed is 0; the trainer that continues has 1",
        ),
    ],
)
def test_what_cannot_be_trained_further_is_left_alone(fgtrain, folder, change, message):
    train(fgtrain, "--steps", SHORT, "--out", "run", "--quiet")
    change(folder / "run")
    steps = LONG if "above" not in message else SHORT
    before = {path: path.read_bytes() for path in (folder / "run").iterdir()}
    assert message in fgtrain("train", "--resume", "run", "--steps", steps).error
    after = {path: path.read_bytes() for path in (folder / "run").iterdir() if path.is_file()}
    changed = {path.name for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed <= {".lock"}


def test_runs_of_earlier_versions_and_runs_that_diverged(fgtrain, folder):
    old = shutil.copytree(DATA / "runs_without_validation" / "feedback" / "ended", folder / "old")
    assert "has ended without state.safetensors" in fgtrain("train", "--resume", old, "--steps", 90).error
    assert (old / "model.safetensors").exists()
    weights = ("--estimator", "weight-perturbation", "--learning-rate", 1e3)
    fgtrain("train", "--widths", 16, *weights, "--steps", 500, "--out", "run", "--quiet")
    assert not (folder / "run" / "state.safetensors").exists()
    assert "has ended: it diverged at step" in fgtrain("train", "--resume", "run", "--steps", 600).error


def test_records_judge_the_run_as_before(fgtrain, folder):
    train(fgtrain, "--steps", SHORT, "--validation", 0.2, "--out", "run", "--quiet")
    first = records(folder / "run")[-1]
    fgtrain("train", "--resume", "run", "--steps", LONG, "--quiet")
    found = records(folder / "run")
    assert found[-1]["step"] == LONG
    assert first in found
    assert np.isfinite([record["validation_accuracy"] for record in found]).all()
