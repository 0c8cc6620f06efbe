"""Early stopping and interruptions: a resumed run ends at the same step, with the same bits."""

import json
from dataclasses import replace

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import RunError
from fgnumba.storage import checkpoint_file
from fgnumba.storage.checkpoint_file import CheckpointFile
from fgnumba.training import replay, replay_log
from fgnumba.training.callbacks import EarlyStopping
from tests.training.test_checkpoints import Stop, bits, blobs, steps_on_disk, trainer, without_time  # noqa: F401

STEPS, EVERY, BEST, END = 60, 4, 4, 20
"""Nothing is better than the first record, and four more end the run."""


@pytest.fixture
def data(blobs):  # noqa: F811
    return blobs


def fit(one, data, folder=None, resume=False, stop=(), steps=STEPS, stopping=None, validation=0.2, **options):
    stopping = stopping or EarlyStopping(4, min_delta=2.0, restore_best=True)
    saved = None if folder is None else fg.Checkpoints(folder, every=5, **options)
    return one.fit(
        data,
        steps=steps,
        batch_size=16,
        evaluate_every=EVERY,
        validation=validation,
        callbacks=[Stop(*stop), stopping],
        checkpoints=saved,
        resume=resume,
    )


KINDS = [("weight-perturbation", False), ("weight-perturbation", True), ("feedback", False)]


@pytest.mark.parametrize(("estimator", "compact"), KINDS)
def test_a_resumed_run_ends_early_as_the_undisturbed_one(tmp_path, data, estimator, compact):
    whole = trainer(estimator, "adam")
    history = fit(whole, data)
    assert (history.ended_early, history.final.step, history.restored_step) == (True, END, BEST)
    # Before the best record, between records, at one.
    for stop in (3, 9, 16):
        assert fit(trainer(estimator, "adam"), data, tmp_path, True, (stop,), compact=compact).stopped
    last = trainer(estimator, "adam")
    resumed = fit(last, data, tmp_path, True, compact=compact)
    assert (resumed.ended_early, resumed.restored_step) == (True, BEST)
    assert without_time(resumed.records) == without_time(history.records)
    facts, arrays = bits(last)
    assert arrays == bits(whole)[1]
    assert facts == bits(whole)[0]
    # Killed after its last checkpoint, the run ends there again.
    again = trainer(estimator, "adam")
    for _ in range(2):
        ended = fit(again, data, tmp_path, True, compact=compact)
        assert (ended.ended_early, ended.restored_step, ended.records) == (True, BEST, resumed.records)
        assert bits(again)[1] == arrays
        again = trainer(estimator, "adam")


def test_a_log_leads_to_the_restored_step_and_to_the_last(tmp_path, data):
    one = trainer("weight-perturbation", "adam")
    history = fit(one, data, tmp_path)
    log = replay_log.read(tmp_path / "replay.log")
    assert log.steps == END
    again = trainer("weight-perturbation", "adam")
    replay.replay(again, log, history.restored_step)
    for name, array in one.model.parameters().items():
        np.testing.assert_array_equal(again.model.parameters()[name], array)


@pytest.mark.parametrize("compact", [False, True])
def test_a_run_whose_best_was_restored_goes_on_as_if_it_had_not_been(tmp_path, data, compact):
    patient = {"stopping": EarlyStopping(99, min_delta=2.0, restore_best=True)}
    whole, one, other = trainer(), trainer(), trainer()
    fit(whole, data, steps=26, **patient)
    first = fit(one, data, tmp_path, steps=18, compact=compact, **patient)
    assert (first.final.step, first.restored_step) == (18, BEST)
    second = fit(other, data, tmp_path, True, steps=26, compact=compact, **patient)
    assert second.restored_step == BEST
    assert bits(other)[1] == bits(whole)[1]
    # Also the steps between, which are those of a run that was not cut.
    replayed, expected = trainer(), trainer()
    replay.replay(replayed, replay_log.read(tmp_path / "replay.log"))
    fit(expected, data, steps=26, stopping=EarlyStopping(99))
    for name, array in expected.model.parameters().items():
        np.testing.assert_array_equal(replayed.model.parameters()[name], array)


def test_a_run_that_is_told_that_it_has_ended_has_its_figures(tmp_path, data):
    fit(trainer(), data, tmp_path, stop=(10,))
    one = trainer()
    history = fit(one, data, tmp_path, True, steps=10)
    assert [record.step for record in history.records] == [4, 8, 10]
    assert np.isfinite(history.final.test_accuracy)
    assert history.restored_step == BEST
    # As a run of so many steps that nobody interrupted.
    whole = fit(trainer(), data, steps=10)
    untimed, expected = (
        [repr(replace(record, seconds=0.0)) for record in one.records] for one in (history, whole)
    )
    assert untimed == expected


def test_best_parameters_are_kept_where_they_are_not_the_models(tmp_path, data):
    fit(trainer(), data, tmp_path, stop=(4,), keep=9)
    fit(trainer(), data, tmp_path, True, stop=(6,), keep=9)
    folder = tmp_path / "checkpoints"
    for step, kept in ((4, False), (5, True), (6, True)):
        found = CheckpointFile(folder / f"step-{step:012}.safetensors")
        assert any(name.startswith("best.") for name in found.entries) == kept
        assert found.facts["early"]["best"] == BEST
    fit(trainer(), data, tmp_path / "plain", stop=(6,), stopping=EarlyStopping(4))
    found = CheckpointFile(tmp_path / "plain/checkpoints/step-000000000006.safetensors")
    assert not any(name.startswith("best.") for name in found.entries)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 0.3}, "validation is 0.2; the run that continues has 0.3"),
        ({"validation": (np.zeros((2, 6, 6, 1)), [0, 1])}, "validation is 0.2; the run that continues has '"),
        (
            {"stopping": EarlyStopping(9)},
            "early_stopping is 'patience 4, .*; the run that continues has 'pat",
        ),
    ],
)
def test_another_way_to_judge_is_refused(tmp_path, data, options, message):
    fit(trainer(), data, tmp_path, stop=(9,))
    with pytest.raises(RunError, match=message):
        fit(trainer(), data, tmp_path, True, **options)


def test_a_run_without_early_stopping_is_not_given_any(tmp_path, data):
    saved = fg.Checkpoints(tmp_path)
    trainer().fit(data, steps=9, batch_size=16, callbacks=[Stop(5)], checkpoints=saved)
    with pytest.raises(RunError, match=r"validation is None; the run that continues has 0\.2"):
        fit(trainer(), data, tmp_path, True)
    history = trainer().fit(data, steps=9, batch_size=16, checkpoints=saved, resume=True)
    assert history.final.step == 9


def early(ended=False, seen=None, best=None):
    seen = {"best": 0.5, "best_step": 4, "waited": 1} if seen is None else seen
    return {"ended": ended, "seen": seen, "best": best}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], r"what the run knew of its end is \[\]"),
        ({"ended": True}, "what the run knew of its end is"),
        (early(ended=1), "ended is 1, which is impossible"),
        (early(seen=[]), r"early stopping is \[\]"),
        (early(seen={"best": 1.0}), "early stopping is"),
        (early(seen={"best": 1, "best_step": 4, "waited": 1}), "best is 1, which is impossible"),
        (early(seen={"best": None, "best_step": -4, "waited": 1}), "best_step is -4, which is impossible"),
        (early(seen={"best": 0.5, "best_step": 4, "waited": True}), "waited is True, which is impossible"),
        (early(best=0), "the best step is 0 of 9, which is impossible"),
        (early(best=10), "the best step is 10 of 9, which is impossible"),
        (early(best="4"), "the best step is '4' of 9, which is impossible"),
    ],
)
def test_what_a_run_cannot_have_known(tmp_path, data, found, message):
    fit(trainer(), data, tmp_path, stop=(9,))
    assert steps_on_disk(tmp_path)[-1] == 9
    path = tmp_path / "checkpoints" / "step-000000000009.safetensors"
    kept = CheckpointFile(path)
    kept.facts["early"] = json.loads(json.dumps(found))
    checkpoint_file.write(path, kept.facts, {name: kept.array(name) for name in kept.entries})
    with pytest.raises(RunError, match=message):
        fit(trainer(), data, tmp_path, True)


def test_the_default_on_a_text_is_its_loss():
    stopping = fg.callbacks.EarlyStopping(2)
    stopping.on_start(None, 3)
    for step, (loss, accuracy) in enumerate(((2.0, 0.5), (1.5, 0.4), (1.6, 0.9), (1.7, 0.9)), 1):
        metrics = {"validation_nats_per_character": loss}
        record = fg.Record(
            step, 1.0, loss, validation_loss=loss, validation_accuracy=accuracy, metrics=metrics
        )
        assert stopping.ends(record) == (step == 4)
    assert (stopping.monitor, stopping.best, stopping.best_step) == ("validation_loss", 1.5, 2)
