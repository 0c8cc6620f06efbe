"""Search of learning rates by successive halving: its rungs, its file of trials, its result."""

import dataclasses
import json
import os
from importlib import import_module

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.search import Ledger, Search, Trial, search


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    x = (rng.standard_normal((200, 8)) + 2 * np.eye(3, 8)[y]).astype(np.float32)
    return fg.datasets.Dataset("blobs", x[:150], y[:150], x[150:], y[150:], 3)


CONFIG = RunConfig(widths=(8,), batch_size=30)


def test_rungs_divide_trials_and_multiply_steps():
    assert Search(count=16, steps=900).rungs() == [(16, 100), (5, 300), (2, 900)]
    assert Search(count=1, steps=7).rungs() == [(1, 7)]
    assert Search(count=9, falls=(0.0, 4.0), steps=810).rungs() == [(18, 90), (6, 270), (2, 810)]
    assert Search(1e-3, 1e-3, 4).rungs() == [(1, 2000)]
    assert Search(1e-3, 1e-1, 3).candidates() == [(0.001, 4.0), (0.01, 4.0), (0.1, 4.0)]


def test_the_judge_is_held_out(blobs, monkeypatch):
    judged = []

    def evaluated(model, data, loss):
        judged.append(data.x_test)
        return fg.evaluate(model, data, loss=loss)

    monkeypatch.setattr("fgnumba.runs.search.evaluate", evaluated)
    search(CONFIG, blobs, Search(1e-3, 1e-2, 2, steps=3))
    search(CONFIG.updated({"seed": 1}), blobs, Search(1e-3, 1e-3, 1, steps=3))
    # A tenth of the training data by the one way to split, the same for every trial.
    for x in judged:
        np.testing.assert_array_equal(x, fg.datasets.validation_split(blobs, 0.1, 0).x_test)
    assert len(judged) == 3


def test_a_search_finds_a_rate_that_learns(blobs):
    told: list[Trial] = []
    found = search(CONFIG, blobs, Search(1e-6, 1e-1, 6, steps=90), tell=told.append)
    assert [trial.steps for trial in found] == [90, 90] + [30] * 6
    assert len(told) == 8
    assert found[0].learning_rate >= 0.01
    assert found[0].accuracy is not None
    assert found[0].accuracy > 0.6
    assert found[0].score >= found[1].score


def test_known_trials_are_not_run_again(blobs):
    what = Search(1e-4, 1e-2, 3, steps=30)
    told: list[Trial] = []
    first = search(CONFIG, blobs, what, tell=told.append)
    again = search(CONFIG, blobs, what, known=told[:-1], tell=told.append)
    assert len(told) == 5
    assert first == again


def test_what_diverges_ranks_last(blobs):
    sgd = CONFIG.updated({"estimator": "weight-perturbation", "optimizer": "sgd", "directions": 2})
    found = search(sgd, blobs, Search(1e-3, 1e30, 3, steps=30))
    assert found[0].learning_rate == 0.001
    assert found[-1].accuracy is None


def test_a_ledger_goes_on_where_it_was_cut(tmp_path):
    path, settings = tmp_path / "new" / "trials.jsonl", {"model": "mlp", "seed": 0}
    trials = [Trial(0.1, 4.0, 30, 0.5, 1.0), Trial(0.2, 4.0, 30, None, None)]
    ledger = Ledger(path, settings)
    for trial in trials:
        ledger.add(trial)
    assert Ledger(path, settings).trials == trials
    path.write_text(path.read_text(encoding="utf-8")[:-10])
    assert Ledger(path, settings).trials == trials[:1]
    Ledger(path, settings).add(trials[1])
    assert Ledger(path, settings).trials == trials
    with pytest.raises(fg.RunError, match="a search with other settings"):
        Ledger(path, {"model": "cnn", "seed": 0})
    lines = path.read_text(encoding="utf-8").splitlines()
    for impossible in ({"steps": 0}, {"steps": 1 << 70}, {"learning_rate": -1}, {"loss": -1.0}):
        line = json.dumps({**dataclasses.asdict(trials[0]), **impossible})
        path.write_text("\n".join([lines[0], line, lines[2], ""]))
        with pytest.raises(fg.RunError, match="damaged in line 2"):
            Ledger(path, settings)
    path.write_text("\n".join([lines[0], "{}", lines[2], ""]))
    with pytest.raises(fg.RunError, match="damaged in line 2"):
        Ledger(path, settings)


def test_a_ledger_that_says_there_is_no_momentum_goes_on(tmp_path):
    path, trial = tmp_path / "trials.jsonl", Trial(0.1, 4.0, 30, 0.5, 1.0)
    Ledger(path, {"model": "mlp", "momentum": 0.0, "nesterov": False}).add(trial)
    assert Ledger(path, {"model": "mlp"}).trials == [trial]
    with pytest.raises(fg.RunError, match="a search with other settings"):
        Ledger(path, {"model": "mlp", "momentum": 0.9})


def test_the_command(fgtrain, folder):
    which = ("search", "--estimator", "local-feedback", "--count", 3, "--lowest", 1e-3, "--highest", 1e-1)
    options = (*which, "--steps", 30, "--config", "c.toml", "--out", "trials.jsonl")
    (folder / "c.toml").write_text("widths = [8]\n")
    done = fgtrain(*options)
    assert done.code == 0
    best = done.out.splitlines()[-1]
    assert best.startswith("best: --learning-rate ")
    lines = (folder / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5
    facts = json.loads(lines[0])
    assert (facts["estimator"], facts["held_out"]) == ("local-feedback", 0.1)
    assert fgtrain(*options).out == done.out
    assert (folder / "trials.jsonl").read_text(encoding="utf-8").splitlines() == lines
    # Trials that other examples judged, as a version before did, are not mixed with these.
    del facts["held_out"]
    (folder / "before.jsonl").write_text("\n".join([json.dumps(facts, sort_keys=True), *lines[1:], ""]))
    error = fgtrain(*options[:-1], "before.jsonl").error
    assert error == "before.jsonl is a search with other settings; name another file"
    # Nor are those of the estimator that had this name before.
    older = {name: value for name, value in json.loads(lines[0]).items() if name != "recipes"}
    (folder / "older.jsonl").write_text("\n".join([json.dumps(older, sort_keys=True), *lines[1:], ""]))
    error = fgtrain(*options[:-1], "older.jsonl").error
    assert error == "older.jsonl is a search with other settings; name another file"
    # What is printed are options of train.
    again = fgtrain("train", "--widths", 8, "--quiet", "--out", "run", *best.split()[1:])
    assert again.code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lowest", 0), "lowest is 0.0"),
        (("--lowest", 1, "--highest", 0.1), "highest is 0.1; at least 1, the lowest"),
        (("--count", 0), "count is 0"),
        (("--falls", "a"), "falls is 'a'"),
        (("--falls", "-1"), "falls is -1.0"),
        (("--estimator", "feedbock"), "unknown estimator 'feedbock' (did you mean 'feedback'?)"),
        (("--estimator", "of none"), "reverse-mode"),
        (("--model", "own.toml", "--widths", 3), "widths: model 'own.toml' has its own layers"),
        (("--model", "logreg", "--widths", 3), "widths: model 'logreg' has no hidden layers"),
    ],
)
def test_bad_options(fgtrain, folder, options, message):
    assert message in fgtrain("search", *options, "--out", "trials").error
    assert not (folder / "trials").exists()


APART = {
    # What decides how long a run is, when it ends, how it is judged: a search does that itself.
    "search": {"epochs", "validation", "patience", "restore_best", "stop_above", "learning_rate", "decay"},
    # Its budget, its estimators, the part that judges; and the exact gradient is computed on the CPU, in float32.
    "compare": {
        *("epochs", "validation", "patience", "restore_best", "stop_above", "estimator"),
        *("device", "precision", "tangent_precision"),
    },
}
OF_A_FOLDER = {"telemetry", "loggers", "checkpoint_every", "keep", "compact", "resume", "quiet"}


@pytest.mark.parametrize("command", APART)
def test_what_train_takes_the_others_take(command):
    names = [
        {parameter.name for parameter in getattr(import_module(f"fgnumba.cli.{one}"), one).params}
        for one in ("train", command)
    ]
    assert names[0] - names[1] == APART[command] | OF_A_FOLDER


def test_options_decide_a_search(fgtrain, folder):
    chosen = ("--widths", 4, "--optimizer", "sgd", "--momentum", 0.5, "--nesterov", "--clip-norm", 2)
    options = (*chosen, "--weight-decay", 0.1, "--device", "cpu", "--count", 1, "--steps", 2)
    assert fgtrain("search", *options, "--out", "trials").code == 0
    facts = json.loads((folder / "trials").read_text(encoding="utf-8").splitlines()[0])
    expected = {"widths": [4], "momentum": 0.5, "nesterov": True, "clip_norm": 2.0, "weight_decay": 0.1}
    assert facts.items() >= expected.items()
    # An editor's mark at its beginning is no damage.
    (folder / "trials").write_bytes(b"\xef\xbb\xbf" + (folder / "trials").read_bytes())
    assert fgtrain("search", *options, "--out", "trials").code == 0


def test_a_disk_that_is_full_ends_no_search(fgtrain, folder, monkeypatch):
    written = []

    def fails_at_the_first_trial(file, content):
        written.append(content)
        if len(written) == 2:
            # As much as there is room for.
            file.write(content[: len(content) // 2])
            raise OSError(28, "No space left on device")
        file.write(content)

    monkeypatch.setattr("fgnumba.runs.search.write_all", fails_at_the_first_trial)
    done = fgtrain("search", "--widths", 4, "--count", 2, "--steps", 2, "--out", "trials")
    assert done.code == 0
    assert "trials: No space left on device; the search goes on" in done.err.splitlines()
    assert len((folder / "trials").read_text(encoding="utf-8").splitlines()) == 1 + done.out.count("\n") - 2
    assert b"".join(written[2:]) in (folder / "trials").read_bytes()


def test_a_file_whose_settings_are_whole_numbers_now_and_fractions_then(tmp_path):
    path = tmp_path / "trials.jsonl"
    path.write_text('{"decay": 0, "seed": 1}\n')
    assert Ledger(path, {"decay": 0.0, "seed": 1}).trials == []
    with pytest.raises(fg.RunError, match="a search with other settings"):
        Ledger(path, {"decay": 0.5, "seed": 1})


TRIALS = [Trial(rate, 4.0, 30, 0.5, 1.0) for rate in (0.1, 0.2, 0.3, 0.4)]


def test_a_ledger_that_a_link_leads_to(tmp_path):
    link, file = tmp_path / "link", tmp_path / "elsewhere" / "trials"
    link.symlink_to(file)
    Ledger(link, {"a": 1}).add(TRIALS[0])
    assert link.is_symlink()
    # One whose last line was cut, too.
    with file.open("a") as stream:
        stream.write('{"learning')
    Ledger(link, {"a": 1}).add(TRIALS[1])
    assert link.is_symlink()
    assert Ledger(file, {"a": 1}).trials == TRIALS[:2]


def test_searches_that_share_a_ledger_keep_all_trials(tmp_path):
    path = tmp_path / "trials"
    ledgers = [Ledger(path, {"a": 1}), Ledger(path, {"a": 1})]
    for number, trial in enumerate(TRIALS):
        ledgers[number % 2].add(trial)
    assert Ledger(path, {"a": 1}).trials == TRIALS
    # Both may have begun it.
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *lines]))
    assert Ledger(path, {"a": 1}).trials == TRIALS


def test_a_ledger_in_a_folder_where_nothing_can_be_made(tmp_path, monkeypatch):
    path = tmp_path / "trials"
    Ledger(path, {"a": 1}).add(TRIALS[0])
    open_before = os.open

    def refuse(name, flags, *more, **others):
        if flags & os.O_CREAT and not os.path.exists(name):
            raise PermissionError(13, "Permission denied", name)
        return open_before(name, flags, *more, **others)

    monkeypatch.setattr("os.open", refuse)
    Ledger(path, {"a": 1}).add(TRIALS[1])
    assert Ledger(path, {"a": 1}).trials == TRIALS[:2]


@pytest.mark.parametrize("left", ["", '{"a"', '{"a": 1}', '{"a": 1.0}'])
def test_a_ledger_without_a_whole_line_is_begun(tmp_path, left):
    path = tmp_path / "trials"
    path.write_text(left)
    Ledger(path, {"a": 1}).add(TRIALS[0])
    assert Ledger(path, {"a": 1}).trials == TRIALS[:1]
    path.write_text("not a ledger")
    with pytest.raises(fg.RunError, match="another file"):
        Ledger(path, {"a": 1})
    assert path.read_text() == "not a ledger"


def test_a_ledger_that_is_removed_meanwhile_is_written_anew(tmp_path):
    path = tmp_path / "trials"
    ledger = Ledger(path, {"a": 1})
    ledger.add(TRIALS[0])
    path.unlink()
    ledger.add(TRIALS[1])
    assert Ledger(path, {"a": 1}).trials == TRIALS[:2]
