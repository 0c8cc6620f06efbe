"""The search by Optuna: its trials, its file, and that neither jobs nor interruptions change the result."""

import contextlib
import json
import logging
import sys

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.machine.threads import most_threads
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.jobs import mapper_of
from fgnumba.runs.optuna_journal import opened
from fgnumba.runs.optuna_search import BATCH, Finished, _known, search_with_optuna
from fgnumba.runs.search import Ledger, Search, Trial

optuna = pytest.importorskip("optuna")

CONFIG = RunConfig(estimator="feedback", widths=(8,), batch_size=30)
WHAT = Search(1e-6, 1e-1, falls=(0.0, 4.0), steps=20)
FACTS = {"model": "mlp", "seed": 0}
SETTINGS = {**FACTS, "search": {"lowest": 1e-6, "highest": 0.1, "falls": [0.0, 4.0], "steps": 20}}
TRIALS = 2 * BATCH + 3


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    x = (rng.standard_normal((200, 8)) + 2 * np.eye(3, 8)[y]).astype(np.float32)
    return fg.datasets.Dataset("blobs", x[:150], y[:150], x[150:], y[150:], 3)


@pytest.fixture(scope="module")
def undisturbed(blobs):
    return search_with_optuna(CONFIG, blobs, WHAT, TRIALS)


def test_a_search_finds_a_rate_that_learns(undisturbed):
    assert len(undisturbed) == TRIALS
    best = undisturbed[0]
    assert best.trial.accuracy is not None
    assert best.trial.accuracy > 0.6
    assert best.taken == WHAT.steps
    assert [step for step, _ in best.reports] == list(range(2, 21, 2))
    assert best.reports[-1][1] == best.trial.accuracy
    # Whole trials come first, and each of the two groups from its best to its worst.
    ranks = [(one.taken, one.trial.score) for one in undisturbed]
    assert ranks == sorted(ranks, reverse=True)
    pruned = [one for one in undisturbed if one.pruned]
    assert pruned
    assert all(5 <= one.taken < 20 for one in pruned)
    assert all(one.trial.fall in WHAT.falls for one in undisturbed)
    assert all(f"{one.trial.learning_rate:.3g}" == f"{one.trial.learning_rate:g}" for one in undisturbed)


def test_seeds_decide(blobs, undisturbed):
    assert search_with_optuna(CONFIG, blobs, WHAT, 3) != undisturbed[:3]
    one, other = (search_with_optuna(CONFIG.updated({"seed": seed}), blobs, WHAT, 2) for seed in (1, 2))
    assert {x.trial.learning_rate for x in one} != {x.trial.learning_rate for x in other}


@pytest.mark.skipif(most_threads() < 2, reason="needs two processors")
def test_jobs_do_not_change_the_result(blobs, undisturbed, tmp_path):
    pytest.importorskip("joblib")
    told = list[Finished]()
    found = search_with_optuna(
        CONFIG, blobs, WHAT, TRIALS, tmp_path / "study", tell=told.append, mapper=mapper_of(2)
    )
    assert found == undisturbed
    assert sorted(map(repr, told)) == sorted(map(repr, found))


@pytest.mark.parametrize("ended", [1, BATCH - 1, BATCH, BATCH + 3])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(blobs, undisturbed, tmp_path, ended):
    path, told = tmp_path / "new" / "study", list[Finished]()

    def interrupt(one):
        told.append(one)
        if len(told) == ended:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_with_optuna(CONFIG, blobs, WHAT, TRIALS, path, FACTS, interrupt)
    # A kill may leave a part of a line.
    with path.open("ab") as file:
        file.write(b'{"op_code":6,"wor')
    more = list[Finished]()
    assert search_with_optuna(CONFIG, blobs, WHAT, TRIALS, path, FACTS, more.append) == undisturbed
    assert len(told) + len(more) == TRIALS
    assert search_with_optuna(CONFIG, blobs, WHAT, TRIALS, path, FACTS, more.append) == undisturbed
    assert len(told) + len(more) == TRIALS
    assert [file.name for file in path.parent.iterdir()] == ["study"]
    # Optuna's own tools read it.
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    assert study.best_value == undisturbed[0].trial.accuracy
    assert len(study.trials) == TRIALS


def test_order_of_ends_does_not_change_the_result(blobs, undisturbed):
    def backwards(function, tasks):
        for index in reversed(range(len(tasks))):
            yield index, function(tasks[index])

    assert search_with_optuna(CONFIG, blobs, WHAT, TRIALS, mapper=backwards) == undisturbed


def test_what_diverges_comes_last(blobs, tmp_path):
    sgd = CONFIG.updated({"estimator": "weight-perturbation", "optimizer": "sgd", "directions": 2})
    what = Search(1e-3, 1e6, steps=20)
    found = search_with_optuna(sgd, blobs, what, 6, tmp_path / "study")
    assert found[0].trial.accuracy is not None
    assert (found[-1].trial.accuracy, found[-1].trial.loss, found[-1].reports) == (None, None, ())
    assert search_with_optuna(sgd, blobs, what, 6, tmp_path / "study") == found


def test_optuna_is_quiet_and_left_as_it_was(blobs, capfd):
    before = optuna.logging.get_verbosity()
    assert before == logging.INFO
    search_with_optuna(CONFIG, blobs, WHAT, 2)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before


@pytest.fixture
def study(blobs, tmp_path):
    """Return the file of a search of three trials."""
    path = tmp_path / "study"
    search_with_optuna(CONFIG, blobs, WHAT, 3, path, FACTS)
    return path


def test_a_file_of_another_search_is_refused(blobs, study, tmp_path):
    before = study.read_bytes()
    other = "is a search with other settings; name another file"
    with pytest.raises(fg.RunError, match=other):
        search_with_optuna(CONFIG, blobs, WHAT, 3, study, {"model": "cnn", "seed": 0})
    with pytest.raises(fg.RunError, match=other):
        search_with_optuna(CONFIG, blobs, Search(1e-5, 1e-1, falls=(0.0, 4.0), steps=20), 3, study, FACTS)
    with pytest.raises(fg.RunError, match=other):
        Ledger(study, FACTS)
    assert study.read_bytes() == before
    Ledger(tmp_path / "trials", FACTS).add(Trial(0.1, 4.0, 30, 0.5, 1.0))
    (tmp_path / "text").write_text("no line break")
    (tmp_path / "foreign").write_text(before.decode().replace("fgtrain search", "somebody's study"))
    for name in ("trials", "text", "foreign"):
        content = (tmp_path / name).read_bytes()
        with pytest.raises(fg.RunError, match=f"{name} is no file of an Optuna search; name another file"):
            search_with_optuna(CONFIG, blobs, WHAT, 3, tmp_path / name, FACTS)
        assert (tmp_path / name).read_bytes() == content


DAMAGES = {
    "no JSON": ("\n{", "\nx", None),
    "unknown operation": ('"op_code":4', '"op_code":77', None),
    "another study": ('"study_id":0', '"study_id":5', "other settings"),
    "no outcome": ('"outcome"', '"nothing"', "damaged in trial 0"),
    "an accuracy of text": ('"accuracy":', '"accuracy":"x","more":', "damaged in trial 0"),
    "too many steps": ('"taken":20', '"taken":21', "damaged in trial"),
    "a negative loss": ('"loss":', '"loss":-1,"more":', "damaged in trial 0"),
    "another parameter": ('"learning_rate"', '"rate"', "damaged in trial 0"),
    "failed": ('"state":1', '"state":3', "damaged in trial"),
    "minimised": ('"directions":[2]', '"directions":[1]', "other settings"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_in_one_line(blobs, study, damage):
    old, new, message = DAMAGES[damage]
    text = study.read_text()
    assert old in text
    study.write_text(text.replace(old, new))
    with pytest.raises(fg.RunError, match=message or "study is damaged: ") as caught:
        search_with_optuna(CONFIG, blobs, WHAT, 4, study, FACTS)
    assert "\n" not in str(caught.value)


def test_files_damaged_at_random_raise_nothing_else(study):
    content, rng = study.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(32, 127)
        study.write_bytes(damaged)
        # Some damage, such as that of a time, changes nothing that matters.
        with contextlib.suppress(fg.RunError), opened(study, SETTINGS) as found:
            _known(found, WHAT, study)


def test_one_search_at_a_time_has_the_file(blobs, study):
    with opened(study, SETTINGS), pytest.raises(fg.RunError, match="study is in use by another search"):
        search_with_optuna(CONFIG, blobs, WHAT, 3, study, FACTS)
    assert len(search_with_optuna(CONFIG, blobs, WHAT, 3, study, FACTS)) == 3


def test_a_full_disk_ends_the_search_and_loses_nothing(blobs, undisturbed, tmp_path, monkeypatch):
    path, told = tmp_path / "study", list[Finished]()
    backend = optuna.storages.journal.JournalFileBackend
    append = backend.append_logs

    def full(self, logs):
        if len(told) == 4:
            with open(path, "ab") as file:
                file.write(json.dumps(logs[0]).encode()[:9])
            raise OSError(28, "No space left on device")
        append(self, logs)

    monkeypatch.setattr(backend, "append_logs", full)
    with pytest.raises(fg.RunError, match=r"study: No space left on device$"):
        search_with_optuna(CONFIG, blobs, WHAT, TRIALS, path, FACTS, told.append)
    monkeypatch.undo()
    assert search_with_optuna(CONFIG, blobs, WHAT, TRIALS, path, FACTS) == undisturbed


def test_the_command(fgtrain, folder):
    options = ("search", "--engine", "optuna", "--trials", 3, "--steps", 20, "--widths", 8)
    done = fgtrain(*options, "--out", "study")
    assert done.code == 0
    assert len(done.out.splitlines()) == 5
    assert done.out.splitlines()[-1].startswith("best: --learning-rate ")
    assert done.err.splitlines()[-1].startswith("3 trials: 3 of 3 trials: ")
    again = fgtrain(*options, "--out", "study")
    assert (again.out, again.err) == (done.out, "")
    trained = fgtrain(
        "train", "--widths", 8, "--quiet", "--out", "run", *done.out.splitlines()[-1].split()[1:]
    )
    assert trained.code == 0


def test_options_of_the_engines(fgtrain, monkeypatch):
    assert "unknown engine 'optun' (did you mean 'optuna'?)" in fgtrain("search", "--engine", "optun").error
    error = fgtrain("search", "--trials", 3).error
    assert error == "trials is 3, and the engine halving has none; optuna has"
    error = fgtrain("search", "--engine", "optuna", "--count", 3).error
    assert error == "count is 3, and the engine optuna has none; halving has"
    assert "trials is 0" in fgtrain("search", "--engine", "optuna", "--trials", 0).error
    monkeypatch.setitem(sys.modules, "optuna", None)
    error = fgtrain("search", "--engine", "optuna").error
    assert error == "engine is 'optuna', and Optuna is not installed: pip install 'fgnumba[optuna]'"
