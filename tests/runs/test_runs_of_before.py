"""Runs of a version without validation data: evaluated, repeated, replayed, and continued to their end.

``data/runs_without_validation`` holds three runs of 60 steps on the digits, of the kinds of `tests/fault_runs.py`.
Each is there twice: killed after its checkpoint of step 40, and as it ends without an interruption. ``loss.png`` is
left out. All their records have a test loss and accuracy.
"""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

import fgnumba as fg
from fgnumba.runs import figures, saved_run
from fgnumba.training import metrics
from tests import tolerances
from tests.places import DATA

RUNS = DATA / "runs_without_validation"
OF_LOSSES = tolerances.Within(tolerances.OTHER_PROCESSORS[100])
# Continued or ended: the compact one is the other's steps, kept in another way.
ENDED = {"feedback": "feedback", "weights": "weights", "compact": "weights"}


def parameters(path):
    return load_file(path / "model.safetensors")


def right(line):
    """Return how many of the 359 test examples are classified right."""
    return round(359 * line["test_accuracy"])


def assert_alike(path, reference):
    """Assert that a run left what another did, which was made on another processor."""
    found = parameters(path)
    for name, array in parameters(reference).items():
        bound = tolerances.PARAMETERS_OF_OTHER_PROCESSORS * np.abs(array).max()
        tolerances.Within(absolute=bound).check(found[name], array, name)


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", ["feedback", "weights"])
def test_a_run_is_evaluated_and_predicts(fgtrain, folder, kind):
    run = RUNS / kind / "ended"
    last = lines(run)[-1]
    found = fgtrain("evaluate", run, "--json").json()
    assert found["accuracy"] == last["test_accuracy"]
    OF_LOSSES.check(found["loss"], last["test_loss"])
    data = fg.datasets.load("digits")
    np.save(folder / "x.npy", data.x_test)
    said = fgtrain("predict", run, "x.npy").out.split()
    assert np.mean([int(label) for label in said] == data.y_test) == found["accuracy"]


@pytest.mark.parametrize("kind", ["feedback", "weights"])
def test_records_and_configuration_are_read(kind):
    run = saved_run.read(RUNS / kind / "ended")
    assert [record.step for record in run.records] == list(range(6, 61, 6))
    assert np.isfinite([(r.test_loss, r.test_accuracy) for r in run.records]).all()
    assert np.isnan([(r.validation_loss, r.validation_accuracy) for r in run.records]).all()
    assert (run.config.steps, run.config.validation, run.config.restore_best) == (60, None, None)
    assert figures.of_records(run.records).axes[0].get_legend_handles_labels()[1]
    # Written again they are the same lines.
    written = [metrics.line_of(record) for record in run.records]
    assert "".join(written) == (RUNS / kind / "ended" / "metrics.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ENDED)
def test_a_run_is_continued_to_the_end_that_it_would_have_had(fgtrain, folder, kind):
    run = shutil.copytree(RUNS / kind / "killed", folder / "run")
    before = lines(run)
    reference = RUNS / ENDED[kind] / "ended"
    done = fgtrain("train", "--resume", "run")
    assert done.code == 0
    assert "after 60 steps" in done.out
    assert_alike(run, reference)
    found, expected = lines(run), lines(reference)
    assert found[: len(before)] == before
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for line, other in zip(found, expected, strict=True):
        OF_LOSSES.check(line["loss"], other["loss"])
        assert line["epoch"] == other["epoch"]
    # What is recorded from here on has test figures at its end alone.
    assert ["test_loss" in line for line in found] == [True] * len(before) + [False] * 3 + [True]
    assert abs(right(found[-1]) - right(expected[-1])) <= 1
    assert (run / "loss.png").exists()


def test_a_log_is_replayed_to_what_it_left(fgtrain, folder):
    ended = RUNS / "weights" / "ended"
    done = fgtrain("replay", ended, "--output", "theta.safetensors", "--quiet")
    # Bits are of the kind of processor that took the steps: on another, which rounds otherwise, this is said.
    said = {0: "identical to model.safetensors", 1: "NOT those of model.safetensors"}
    assert done.out.rstrip().endswith(said[done.code])
    found = load_file(folder / "theta.safetensors")
    for name, array in parameters(ended).items():
        bound = tolerances.PARAMETERS_OF_OTHER_PROCESSORS * np.abs(array).max()
        tolerances.Within(absolute=bound).check(found[name], array, name)


def test_a_compact_run_is_replayed_as_the_run_whose_steps_it_has(fgtrain):
    done = fgtrain("replay", RUNS / "compact" / "killed", "--step", 40, "--quiet")
    assert done.code == 0
    assert done.out == fgtrain("replay", RUNS / "weights" / "ended", "--step", 40, "--quiet").out


def test_local_feedback_of_before_goes_on_as_it_began(fgtrain, folder):
    """The name stood for matrices that noise alone teaches, and config.toml had no version of the recipes."""
    options = ("--widths", "8", "--decay", 0.02, "--precision", "float32", "--quiet")
    named = ("--estimator", "local-noise-feedback")
    assert fgtrain("train", *options, *named, "--steps", 30, "--out", "whole").code == 0
    assert fgtrain("train", *options, *named, "--steps", 15, "--out", "run").code == 0
    path = folder / "run/config.toml"
    text = path.read_text(encoding="utf-8")
    assert "recipes = 2\n" in text
    before = text.replace("recipes = 2\n", "").replace('"local-noise-feedback"', '"local-feedback"')
    path.write_text(before, encoding="utf-8")
    assert saved_run.read(folder / "run").config.estimator == "local-noise-feedback"
    assert fgtrain("train", "--resume", "run", "--steps", 30, "--quiet").code == 0
    for name, array in parameters(folder / "whole").items():
        np.testing.assert_array_equal(parameters(folder / "run")[name], array)
    # Today's run of that name is another one.
    path.write_text(text.replace('"local-noise-feedback"', '"local-feedback"'), encoding="utf-8")
    assert saved_run.read(folder / "run").config.estimator == "local-feedback"
