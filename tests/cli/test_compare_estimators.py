"""Estimators at an equal budget (``fgtrain compare``), and estimates against the exact gradient (``--telemetry``)."""

import json
import signal
import sys

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.learning.compare_estimators import Budget, compare
from fgnumba.bench.learning.telemetry import Telemetry
from fgnumba.bench.learning.telemetry import compare as read
from fgnumba.cli import progress
from fgnumba.runs.configuration import RunConfig
from tests import tolerances
from tests.fault_runs import ended, killed, start, wait_for


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    x = (rng.standard_normal((200, 8)) + 2 * np.eye(3, 8)[y]).astype(np.float32)
    return fg.datasets.Dataset("blobs", x[:150], y[:150], x[150:], y[150:], 3)


CONFIG = RunConfig(widths=(8,), batch_size=30, learning_rate=0.1)


def test_equal_steps(blobs):
    names = ("feedback", "weight-perturbation", "reverse-mode")
    found = compare(names, CONFIG, blobs, Budget("steps", 60), seeds=2, evaluations=4, target=0.5)
    assert [(curve.name, curve.seed) for curve in found.curves] == [(n, s) for s in (0, 1) for n in names]
    for curve in found.curves:
        assert curve.steps == [0, 15, 30, 45, 60]
        assert curve.seconds == sorted(curve.seconds)
        tolerances.COUNTED.check(curve.products[-1], 60 * curve.settings["multiply_adds"])
    # All begin with the same parameters.
    assert len({curve.losses[0] for curve in found.curves if curve.seed == 0}) == 1
    backward = found.of("reverse-mode")[0]
    assert backward.accuracies[-1] > 0.6
    rows = found.table().splitlines()
    assert [row.split()[0] for row in rows[1:]] == list(names)
    assert rows[0].split()[-4:] == ["steps", "to", "0.5", "seconds"]


def test_equal_products(blobs):
    found = compare(("feedback", "local"), CONFIG, blobs, Budget("products", 3e6), evaluations=2)
    for curve in found.curves:
        # A whole number of steps, and never more than the budget.
        assert 3e6 - curve.settings["multiply_adds"] < curve.products[-1] <= 3e6


def test_reverse_mode_is_the_same_in_both_trainers(blobs):
    model, other = (fg.Sequential([fg.Dense(9, activation="tanh"), fg.Dense(3)], 8, seed=5) for _ in range(2))
    trainer = fg.Trainer(model, estimator=reverse.ReverseMode(), optimizer=fg.SGD(0.1, decay=0.01))
    known = reverse.ReverseTrainer(other, 0.1, decay=0.01)
    for x, y in (next(blobs.batches(30, seed)) for seed in range(5)):
        assert trainer.step(x, y).loss == known.step(x, y)
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, other.parameters()[name])


def test_the_command(fgtrain, folder):
    options = (
        "compare",
        "--estimators",
        "feedback, reverse-mode",
        "--widths",
        8,
        "--steps",
        20,
        "--evaluations",
        2,
    )
    done = fgtrain(*options, "--out", "out")
    assert done.code == 0
    assert "mlp on digits, 20 steps each, 1 seed(s)" in done.out
    data = json.loads((folder / "out" / "data.json").read_text(encoding="utf-8"))
    assert [curve["name"] for curve in data["curves"]] == ["feedback", "reverse-mode"]
    assert (folder / "out" / "figure.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    assert fgtrain(*options[:-2], "--seconds", 0.05, "--out", "b").error.startswith(
        "steps and seconds are both"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--estimators", ","), "none is named"),
        (("--estimators", "feedback,reverse"), "unknown estimator 'reverse' (did you mean 'reverse-mode'?)"),
        (("--estimators", "of none"), "reverse-mode"),
        (("--model", "own.toml"), "widths: model 'own.toml' has its own layers"),
        (("--steps", 0), "steps is 0"),
        (("--seconds", -1), "seconds is -1.0"),
        (("--seeds", 0), "seeds is 0"),
        (("--evaluations", 0), "evaluations is 0"),
        (("--target", 2), "target is 2.0; an accuracy from 0 to 1"),
        (("--target", "nan"), "target is nan"),
    ],
)
def test_bad_options(fgtrain, folder, options, message):
    assert message in fgtrain("compare", "--widths", 8, *options).error


def test_readings():
    exact = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    same = read(exact, exact, 7, 2.0)
    assert (same.step, same.cosine, same.relative_error, same.gradient_norm, same.theory) == (
        7,
        1.0,
        0.0,
        5.0,
        2.0,
    )
    other = read({"a": np.array([0.0, 5.0]), "b": np.array([[0.0]])}, exact, 0, None)
    assert other.cosine == 0
    tolerances.COUNTED.check(other.relative_error, 2.0)
    assert read({"a": np.zeros(2), "b": np.zeros((1, 1))}, exact, 0, None).cosine == 0


def test_telemetry_changes_nothing(blobs, tmp_path):
    found = []
    for every in (None, 3):
        model = fg.Sequential([fg.Dense(16, activation="relu"), fg.Dense(3)], 8, seed=1)
        estimator = fg.ActivityPerturbation(feedback=fg.Feedback())
        trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.Adam(0.01))
        checkpoints = fg.Checkpoints(tmp_path / str(every))
        callbacks = [] if every is None else [Telemetry(every, blobs, 30, checkpoints)]
        trainer.fit(blobs, steps=10, batch_size=30, callbacks=callbacks, checkpoints=checkpoints)
        found.append(model.parameters())
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])
    lines = [
        json.loads(line)
        for line in (tmp_path / "3" / "gradient.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [line["step"] for line in lines] == [0, 3, 6, 9]
    assert all(-1 <= line["cosine"] <= 1 for line in lines)
    assert (tmp_path / "3" / "gradient.png").read_bytes().startswith(b"\x89PNG")


class Stop(fg.Callback):
    """Ends a run after its fifth step."""

    def on_start(self, trainer, steps):
        self.trainer = trainer

    def on_step(self, step, result):
        if step == 5:
            self.trainer.stop()


@pytest.mark.parametrize(
    "damage",
    [{"step": None}, {"step": 0.5}, {"cosine": 10**310}, {"theory": "x"}, {"x": 1}],
    ids=["no step", "half a step", "beyond every float", "text", "unknown"],
)
def test_damaged_readings_are_said_and_the_run_goes_on(blobs, tmp_path, damage):
    said: list[str] = []
    path = tmp_path / "gradient.jsonl"
    checkpoints = fg.Checkpoints(tmp_path, warn=said.append)
    for resume in (False, True):
        trainer = fg.Trainer(fg.Sequential([fg.Dense(3)], 8, seed=1), optimizer=fg.SGD(0.01))
        telemetry = Telemetry(1, blobs, 30, checkpoints)
        if resume:
            content = path.read_text(encoding="utf-8")
            line = json.dumps({**json.loads(content.splitlines()[0]), **damage})
            # As long as it was at the checkpoint.
            assert len(line) < len(content)
            path.write_text(line.ljust(len(content) - 1) + "\n")
        trainer.fit(
            blobs,
            steps=10,
            batch_size=30,
            callbacks=[Stop(), telemetry] if not resume else [telemetry],
            checkpoints=checkpoints,
            resume=resume,
        )
    (line,) = said
    assert line.startswith(f"{path} is damaged (")
    assert line.endswith("): the readings before are lost")
    assert [reading.step for reading in telemetry.readings] == [6, 7, 8, 9, 10]


def test_telemetry_does_not_stand_in_the_way_of_recovery(blobs, tmp_path):
    model = fg.Sequential([fg.Dense(16, activation="relu"), fg.Dense(3)], 8, seed=1)
    before = model.parameters()
    trainer = fg.Trainer(
        model, estimator=fg.ActivityPerturbation(), optimizer=fg.Adam(lambda step: 0.01 if step < 3 else 1e38)
    )
    checkpoints = fg.Checkpoints(tmp_path)
    with pytest.raises(fg.DivergenceError, match="the parameters after step 0 are restored"):
        trainer.fit(
            blobs,
            steps=50,
            batch_size=30,
            evaluate_every=25,
            callbacks=[Telemetry(1, blobs, 30, checkpoints)],
            checkpoints=checkpoints,
        )
    assert len((tmp_path / "gradient.jsonl").read_text(encoding="utf-8").splitlines()) >= 4
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])


def test_telemetry_from_the_command_line(fgtrain, folder):
    done = fgtrain("train", "--widths", 8, "--steps", 20, "--telemetry", 10, "--out", "run", "--quiet")
    assert done.code == 0
    readings = [
        json.loads(line)
        for line in (folder / "run" / "gradient.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [reading["step"] for reading in readings] == [0, 10, 20]
    assert (folder / "run" / "gradient.png").exists()
    assert "telemetry is 0" in fgtrain("train", "--telemetry", 0).error


SHORT = ("compare", "--estimators", "feedback", "--widths", 8, "--steps", 2, "--evaluations", 1)


def test_results_are_not_written_over(fgtrain, folder):
    assert fgtrain(*SHORT, "--out", "out").code == 0
    before = (folder / "out" / "data.json").read_bytes()
    # Long enough that it is said before the work.
    endless = (*SHORT[:5], "--steps", 10**9)
    expected = "out: out holds a result, data.json; name another folder"
    assert fgtrain(*endless, "--out", "out").error == expected
    (folder / "figures").mkdir()
    (folder / "figures" / "figure.svg").touch()
    assert "holds a result, figure.svg" in fgtrain(*endless, "--out", "figures").error
    assert expected in fgtrain("reproduce", "beale", "--out", "out").error
    assert (folder / "out" / "data.json").read_bytes() == before
    for _ in range(3):
        assert fgtrain(*SHORT).code == 0
    assert sorted(path.name for path in (folder / "compared").iterdir()) == [
        "digits-mlp",
        "digits-mlp-2",
        "digits-mlp-3",
    ]
    # A folder may hold what is no result.
    (folder / "notes").mkdir()
    (folder / "notes" / "notes.txt").touch()
    assert fgtrain(*SHORT, "--out", "notes").code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_two_comparisons_at_once_keep_both_results(fgtrain, folder):
    endless = (*SHORT[:5], "--steps", 10**9, "--evaluations", 10**9)
    process = start(*endless, cwd=folder)
    wait_for(lambda: "seed 0" in process.messages.read_text(encoding="utf-8"), process)
    assert fgtrain(*SHORT).code == 0
    assert [path.parent.name for path in folder.glob("compared/*/data.json")] == ["digits-mlp-2"]
    error = fgtrain(*SHORT, "--out", "compared/digits-mlp").error
    expected = "another process is writing a result there; name another folder"
    assert error == f"out: compared/digits-mlp: {expected}"
    # One that gets nothing goes; one whose process was killed is free.
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143
    assert [path.name for path in (folder / "compared").iterdir()] == ["digits-mlp-2"]
    process = start(*endless, cwd=folder)
    wait_for((folder / "compared" / "digits-mlp").exists, process)
    killed(process)
    assert fgtrain(*SHORT).code == 0
    assert sorted(path.name for path in (folder / "compared" / "digits-mlp").iterdir()) == [
        "data.json",
        "figure.svg",
    ]


@pytest.mark.parametrize("command", [SHORT, ("reproduce", "beale", "--quick")])
def test_a_result_that_came_meanwhile_stays(fgtrain, folder, monkeypatch, command):
    shown = progress.interruptible

    def another_ends(display):
        (folder / "out" / "data.json").write_text("another's")
        return shown(display)

    (folder / "out").mkdir()
    monkeypatch.setattr(progress, "interruptible", another_ends)
    done = fgtrain(*command, "--out", "out")
    assert done.code == 0
    assert (folder / "out" / "data.json").read_text() == "another's"
    assert sorted(path.name for path in (folder / "out-2").iterdir()) == ["data.json", "figure.svg"]
    line = "out got a result meanwhile, data.json; this one is written beside it"
    assert done.err.splitlines()[-2:] == [line, "data and figure in out-2"]


def test_a_folder_that_cannot_be_written_is_said_before_the_work(fgtrain, folder, monkeypatch):
    endless = (*SHORT[:5], "--steps", 10**9)
    (folder / "file").touch()
    assert fgtrain(*endless, "--out", "file").error == "out: file is a file; a folder is required"
    assert "is a file; file/x cannot be below it" in fgtrain(*endless, "--out", "file/x").error
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "is not writable" in fgtrain(*endless, "--out", "new/out").error


def test_a_result_that_cannot_be_written_is_printed(fgtrain, folder, monkeypatch):
    def full(*_):
        raise fg.RunError("data.json cannot be written: No space left on device")

    monkeypatch.setattr("fgnumba.bench.measure.result.write", full)
    done = fgtrain(*SHORT, "--out", "out")
    assert (done.code, "feedback" in done.out) == (2, True)
    assert done.err.splitlines()[-1].endswith("cannot be written: No space left on device")


def test_settings_of_a_comparison(fgtrain, folder):
    (folder / "c.toml").write_text("widths = [4]\nbatch_size = 32\n")
    chosen = ("--config", "c.toml", "--optimizer", "sgd", "--momentum", 0.5, "--nesterov", "--decay", 0.01)
    options = (*chosen, "--clip-norm", 3, "--weight-decay", 0.1, "--direction", "gaussian")
    which = ("compare", "--estimators", "weight-perturbation,reverse-mode", "--steps", 2, "--out", "out")
    assert fgtrain(*which, *options).code == 0
    found = json.loads((folder / "out" / "data.json").read_text(encoding="utf-8"))["config"]
    expected = {"widths": [4], "batch_size": 32, "momentum": 0.5, "decay": 0.01, "direction": "gaussian"}
    assert found.items() >= expected.items()
