"""Validation and early stopping: on the command line, in run folders, and in the commands that read these."""

import json
import re
import tomllib

import numpy as np
import pytest
from safetensors.numpy import load_file

import fgnumba as fg
from fgnumba.datasets.split import split
from fgnumba.runs import figures, saved_run
from fgnumba.runs.configuration import HELD_OUT, PATIENCE, RunConfig
from tests.fault_runs import assert_undisturbed, killed, start

# Labels that nothing says: the accuracy on what is held out gets no better.
NOISE = ("--data", "noise.npz", "--widths", 8, "--learning-rate", 1e-3, "--device", "cpu")
WEIGHTS = ("--estimator", "weight-perturbation", "--directions", 2)


@pytest.fixture
def noise(folder):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((200, 5)).astype(np.float32), rng.integers(0, 3, 200)
    np.savez(folder / "noise.npz", x_train=x[:160], y_train=y[:160], x_test=x[160:], y_test=y[160:])


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def config(run):
    return tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))


def end_of(run):
    """Return the step after which patience has run out, and that of the best record, from a run's lines."""
    best, at, waited = -1.0, 0, 0
    for line in lines(run):
        if line["validation_accuracy"] > best:
            best, at, waited = line["validation_accuracy"], line["step"], 0
        else:
            waited += 1
        if waited == config(run)["patience"]:
            return line["step"], at
    return None, at


def test_without_steps_a_run_ends_where_it_gets_no_better(fgtrain, folder, noise):
    done = fgtrain("train", *NOISE, "--out", "run")
    assert done.code == 0
    run = folder / "run"
    settings = config(run)
    chosen = settings["validation"], settings["patience"], settings["restore_best"]
    assert chosen == (HELD_OUT, PATIENCE, False)
    end, best = end_of(run)
    *before, last = lines(run)
    assert last["step"] == end < settings["steps"]
    assert all("test_accuracy" not in line for line in before)
    found = re.search(
        r"^ended early: validation accuracy (0\.\d+) at step (\d+) was not exceeded", done.err, re.M
    )
    assert found
    assert found[1] == f"{max(line['validation_accuracy'] for line in lines(run)):.4f}"
    assert int(found[2]) == best
    assert done.out == (
        f"test accuracy {last['test_accuracy']:.4f}, test loss {last['test_loss']:.4f} after {end} steps "
        f"in {last['seconds']:.1f} s; run folder run\n"
    )
    evaluated = fgtrain("evaluate", "run", "--json").json()
    assert (evaluated["accuracy"], evaluated["loss"]) == (last["test_accuracy"], last["test_loss"])
    # What judged is what the library holds out with this seed.
    data = fg.datasets.load("noise.npz")
    _, x, y = split(data, HELD_OUT, 0)
    judged = fg.evaluate(saved_run.read(run).model, x, y)
    assert (judged.accuracy, judged.loss) == (last["validation_accuracy"], last["validation_loss"])
    # The run's own configuration repeats it.
    assert fgtrain("train", "--config", "run/config.toml", "--out", "again", "--quiet").code == 0
    assert_undisturbed(folder / "again", run)


def test_steps_that_are_given_are_taken_and_no_data_held_out(fgtrain, folder, noise):
    for number, given in enumerate((("--steps", 40), ("--epochs", 20))):
        done = fgtrain("train", *NOISE, *given, "--out", f"run{number}")
        assert done.code == 0
        run = folder / f"run{number}"
        assert (config(run)["validation"], config(run)["patience"]) == (0.0, 0)
        assert lines(run)[-1]["step"] == 40
        assert not any("validation_loss" in line for line in lines(run))
        assert "validation" not in done.err
        assert np.isfinite(lines(run)[-1]["test_accuracy"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("--steps", 40, "--validation", 0.25), (0.25, 0)),
        (("--steps", 40, "--patience", 1), (HELD_OUT, 1)),
        (("--epochs", 300, "--validation", 0.25, "--patience", 1), (0.25, 1)),
        (("--validation", 0.25, "--patience", 1), (0.25, 1)),
    ],
)
def test_what_is_given_and_what_follows(fgtrain, folder, noise, given, expected):
    assert fgtrain("train", *NOISE, *given, "--out", "run", "--quiet").code == 0
    run = folder / "run"
    assert (config(run)["validation"], config(run)["patience"]) == expected
    assert all("validation_loss" in line for line in lines(run))
    end, _ = end_of(run) if expected[1] else (40, 0)
    assert lines(run)[-1]["step"] == end


def test_passes_are_over_what_trains(fgtrain, folder, noise):
    options = ("--epochs", 3, "--validation", 0.5, "--batch-size", 20, "--out", "run", "--quiet")
    assert fgtrain("train", *NOISE, *options).code == 0
    assert config(folder / "run")["steps"] == 12
    assert lines(folder / "run")[-1]["epoch"] == 3.0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (HELD_OUT, PATIENCE)),
        ({"steps": 9}, (0.0, 0)),
        ({"validation": 0.0}, (0.0, 0)),
        ({"validation": 0.2}, (0.2, PATIENCE)),
        ({"patience": 0}, (HELD_OUT, 0)),
        ({"epochs": 9, "patience": 3}, (HELD_OUT, 3)),
    ],
)
def test_defaults_depend_on_what_is_given(settings, expected):
    found = RunConfig(**settings).judged()
    assert (found.validation, found.patience) == expected
    assert found.judged() == found
    assert found.updated({"steps": 7}).judged().patience == expected[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--validation", 1), "validation is 1.0; a finite number 0 or above and below 1"),
        (("--validation", "nan"), "validation is nan"),
        (("--patience", -1), "patience is -1"),
        (("--patience", 3, "--validation", 0), "patience is 3 and validation 0; a share to hold out"),
        (("--steps", 9, "--restore-best"), "restore_best is true and patience 0"),
        (("--validation", 1e-9), "1e-09 of 160 training examples leave none to validate on"),
    ],
)
def test_what_cannot_be(fgtrain, folder, noise, options, message):
    assert message in fgtrain("train", *NOISE, *options).error
    assert not (folder / "runs").exists()


def test_data_too_few_to_hold_any_out_train_without(fgtrain, folder):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 5)).astype(np.float32), rng.integers(0, 2, 12)
    np.savez(folder / "tiny.npz", x_train=x[:8], y_train=y[:8], x_test=x[8:], y_test=y[8:])
    few = ("train", "--data", "tiny.npz", "--quiet", "--batch-size", "4", "--widths", "4")
    assert fgtrain(*few, "--out", "a").code == 0
    assert (config(folder / "a")["validation"], config(folder / "a")["patience"]) == (0.0, 0)
    for given in (("--validation", "0.05"), ("--patience", "3")):
        done = fgtrain(*few, *given, "--out", "b")
        assert done.code == 2
        assert "0.05 of 8 training examples leave none to validate on" in done.err


def test_a_run_that_diverged_is_kept_whatever_its_test_data(fgtrain, folder, noise):
    with np.load(folder / "noise.npz") as data:
        arrays = dict(data)
    # One example whose loss ends the run: with this seed its turn comes after the first record.
    arrays["x_train"][7] = 1e5
    np.savez(folder / "ordinary.npz", **arrays)
    np.savez(folder / "never.npz", **{**arrays, "x_test": arrays["x_test"] * np.float32(1e38)})
    for name in ("ordinary", "never"):
        shape = (
            "--data",
            f"{name}.npz",
            "--widths",
            "4",
            "--batch-size",
            "4",
            "--steps",
            "100",
            "--seed",
            "2",
        )
        done = fgtrain("train", *shape, "--stop-above", "1000", "--quiet", "--out", name)
        assert done.code == 2
        assert done.err.rstrip().endswith(f"the parameters after step 10 are restored; they are in {name}")
        assert (folder / name / "model.safetensors").exists()


@pytest.mark.parametrize("text", ["validation = true", 'patience = "5"', "restore_best = 1"])
def test_settings_of_other_kinds(fgtrain, folder, text):
    (folder / "settings.toml").write_text(text)
    assert fgtrain("train", "--config", "settings.toml").error.startswith("settings.toml: " + text.split()[0])


def test_a_restored_best_is_what_is_left_and_what_a_replay_leads_to(fgtrain, folder, noise):
    done = fgtrain("train", *NOISE, *WEIGHTS, "--patience", 2, "--restore-best", "--out", "run")
    assert done.code == 0
    run = folder / "run"
    end, best = end_of(run)
    assert end == lines(run)[-1]["step"]
    assert config(run)["run"]["restored_step"] == best < end
    assert f"the parameters are those of step {best}, the best on the validation data" in done.err
    last = lines(run)[-1]
    evaluated = fgtrain("evaluate", "run", "--json").json()
    assert (evaluated["accuracy"], evaluated["loss"]) == (last["test_accuracy"], last["test_loss"])
    replayed = fgtrain("replay", "run", "--quiet")
    assert replayed.code == 0
    assert re.fullmatch(
        rf"step {best}, sha256 [0-9a-f]{{64}}, identical to model.safetensors\n", replayed.out
    )
    # The steps after it are in the log, too: a run that does not restore leaves them.
    plain = fgtrain("train", *NOISE, *WEIGHTS, "--patience", 2, "--out", "plain", "--quiet")
    assert plain.code == 0
    to_the_end = fgtrain("replay", "run", "--step", end, "--output", "end.safetensors", "--quiet")
    assert to_the_end.out.startswith(f"step {end}, sha256 ")
    assert "model.safetensors" not in to_the_end.out
    left = load_file(folder / "plain" / "model.safetensors")
    for name, array in load_file(folder / "end.safetensors").items():
        np.testing.assert_array_equal(array, left[name])


@pytest.mark.parametrize("text", ["-1", '"4"', "true"])
def test_a_restored_step_that_is_none(fgtrain, folder, noise, text):
    options = ("--steps", 4, "--patience", 1, "--restore-best", "--out", "run", "--quiet")
    assert fgtrain("train", *NOISE, *WEIGHTS, *options).code == 0
    path = folder / "run" / "config.toml"
    path.write_text(
        f"{path.read_text(encoding='utf-8')}\nrestored_step = {text}\n".replace("restored_step = 1\n", "")
    )
    assert "config.toml is damaged: restored_step is" in fgtrain("replay", "run").error


@pytest.mark.parametrize(
    "kind", [(), WEIGHTS, (*WEIGHTS, "--compact")], ids=["feedback", "weights", "compact"]
)
def test_a_killed_run_ends_early_as_the_undisturbed_one(fgtrain, folder, noise, kind):
    options = ("train", *NOISE, *kind, "--steps", 60, "--patience", 4, "--checkpoint-every", 5, "--quiet")
    options = (*options, "--restore-best")
    assert fgtrain(*options, "--out", "reference").code == 0
    assert killed(start(*options, "--out", folder / "run", cwd=folder, hold=10))[0] != 0
    assert fgtrain("train", "--resume", "run", "--quiet").code == 0
    assert_undisturbed(folder / "run", folder / "reference")
    assert config(folder / "run")["run"]["restored_step"] == end_of(folder / "run")[1]


def test_the_figure_shows_what_was_taken():
    def labels(records):
        legends = [axis.get_legend() for axis in figures.of_records(records).axes]
        return [text.get_text() for legend in legends if legend is not None for text in legend.get_texts()]

    plain = [fg.Record(step, 1.0, 2.0) for step in (1, 2)]
    assert labels(plain) == ["training"]
    tested = fg.Record(3, 1.0, 2.0, test_loss=1.0, test_accuracy=0.5)
    assert labels([*plain, tested]) == ["training", "test: 1"]
    judged = fg.Record(3, 1.0, 2.0, validation_loss=1.0, validation_accuracy=0.5)
    best = [f"best record: {value} at step 3" for value in (1, 50)]
    assert labels([*plain, judged]) == ["training", "validation", best[0], "validation", best[1]]
    training, dot = figures.of_records([*plain, tested]).axes[0].lines
    np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(dot.get_xydata(), [[3, 1]])


def test_progress_shows_the_validation_part(fgtrain, folder, noise):
    done = fgtrain("train", *NOISE, "--steps", 40, "--validation", 0.2)
    shown = [line for line in done.err.splitlines() if line.startswith("step ")]
    last = lines(folder / "runs" / "noise-mlp-1")[-1]
    expected = f"validation loss {last['validation_loss']:.4f}  accuracy {last['validation_accuracy']:.4f}"
    assert expected in shown[-1]
    assert not [line for line in done.err.splitlines() if "test" in line and "warning: " not in line]
