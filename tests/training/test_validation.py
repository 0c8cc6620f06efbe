"""Validation data, early stopping, and the test loss and accuracy, which are computed once."""

import json
import math

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.datasets.split import split
from fgnumba.training import judge, metrics
from fgnumba.training.callbacks import EarlyStopping


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(90) % 3)
    x = (rng.standard_normal((90, 6)) + 2 * np.eye(3, 6)[y]).astype(np.float32)
    return fg.datasets.Dataset("blobs", x[:70], y[:70], x[70:], y[70:], 3)


def trainer(seed=5, rate=1e-2):
    model = fg.Sequential([fg.Dense(8, activation="relu"), fg.Dense(3)], 6, seed=3)
    estimator = fg.WeightPerturbation(directions=2)
    return fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(rate), seed=seed)


def never_better(patience=2, **options):
    """Return early stopping that finds nothing better than the first record."""
    return EarlyStopping(patience, min_delta=2.0, **options)


class Kept(fg.Callback):
    """Keeps the parameters of every record."""

    def __init__(self):
        self.at, self.told, self.ended = {}, [], 0

    def on_start(self, trainer, steps):
        self.model = trainer.model

    def on_record(self, record):
        self.at[record.step] = self.model.parameters()
        self.told.append(record)

    def on_end(self, history):
        self.ended += 1


def assert_alike(found, expected):
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def figures(record):
    return record.validation_loss, record.validation_accuracy, record.test_loss, record.test_accuracy


def test_a_share_of_the_training_data_judges_and_does_not_train(blobs):
    one, other = trainer(), trainer()
    history = one.fit(blobs, steps=9, batch_size=16, evaluate_every=4, validation=0.2)
    rest, x, y = split(blobs, 0.2, 5)
    assert (len(rest.x_train), len(x)) == (56, 14)
    again = other.fit(rest, steps=9, batch_size=16, evaluate_every=4, validation=(x, y))
    assert_alike(one.model.parameters(), other.model.parameters())
    assert [figures(r) for r in history.records] == [figures(r) for r in again.records]
    assert [r.epoch for r in history.records] == [4 / 3, 8 / 3, 3.0]
    judged = fg.evaluate(one.model, x, y)
    assert (history.final.validation_loss, history.final.validation_accuracy) == (
        judged.loss,
        judged.accuracy,
    )


def test_epochs_are_passes_over_what_is_left_to_train_on(blobs):
    history = trainer().fit(blobs, epochs=2, batch_size=16, validation=0.5)
    assert [(r.step, r.epoch) for r in history.records] == [(2, 1.0), (4, 2.0)]


def test_the_share_follows_the_seed_of_the_trainer(blobs):
    first, again, other = (
        trainer(seed).fit(blobs, steps=1, validation=0.2).final.validation_loss for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(("validation", "stopping"), [(None, False), (0.2, False), (0.2, True)])
def test_the_test_data_are_looked_at_once_at_the_end(blobs, monkeypatch, validation, stopping):
    looks, evaluate = [], judge.evaluated

    def watched(model, loss, measured, x, y):
        looks.append(x is blobs.x_test)
        return evaluate(model, loss, measured, x, y)

    monkeypatch.setattr(judge, "evaluated", watched)
    callbacks = [never_better(restore_best=True)] if stopping else []
    one = trainer()
    options = {"batch_size": 16, "evaluate_every": 4, "validation": validation, "callbacks": callbacks}
    history = one.fit(blobs, steps=30, **options)
    assert sum(looks) == 1
    assert history.ended_early == stopping
    *before, final = history.records
    assert all(math.isnan(r.test_loss) and math.isnan(r.test_accuracy) for r in before)
    assert all(math.isnan(r.validation_loss) == (validation is None) for r in history.records)
    tested = fg.evaluate(one.model, blobs.x_test, blobs.y_test)
    assert (final.test_loss, final.test_accuracy) == (tested.loss, tested.accuracy)


@pytest.mark.parametrize("patience", [1, 3])
@pytest.mark.parametrize("restore", [False, True])
def test_patience_counts_records_without_a_better_figure(blobs, patience, restore):
    kept, stopping, one = Kept(), never_better(patience, restore_best=restore), trainer()
    history = one.fit(
        blobs, steps=90, batch_size=16, evaluate_every=4, validation=0.2, callbacks=[stopping, kept]
    )
    last = 4 * (1 + patience)
    assert [r.step for r in history.records] == list(range(4, last + 1, 4))
    assert (one.steps_done, history.ended_early, history.stopped, kept.ended) == (last, True, False, 1)
    assert (stopping.best_step, stopping.waited) == (4, patience)
    assert stopping.best == history.records[0].validation_accuracy
    assert kept.told == history.records
    assert history.restored_step == (4 if restore else None)
    assert_alike(one.model.parameters(), kept.at[4 if restore else last])


def test_the_best_record_is_restored_also_after_the_last_step(blobs):
    kept, one = Kept(), trainer()
    stopping = never_better(50, restore_best=True)
    history = one.fit(
        blobs, steps=10, batch_size=16, evaluate_every=4, validation=0.2, callbacks=[kept, stopping]
    )
    assert [r.step for r in history.records] == [4, 8, 10]
    assert (history.ended_early, history.restored_step) == (False, 4)
    assert_alike(one.model.parameters(), kept.at[4])
    # The figures of the last record are those of its step; the test figures those of what is left.
    assert history.final.test_loss == fg.evaluate(one.model, blobs.x_test, blobs.y_test).loss
    _, x, y = split(blobs, 0.2, 5)
    assert history.final.validation_loss != fg.evaluate(one.model, x, y).loss


def test_a_best_record_that_is_the_last_is_left_as_it_is(blobs):
    history = trainer().fit(
        blobs, steps=4, evaluate_every=4, validation=0.2, callbacks=[EarlyStopping(restore_best=True)]
    )
    assert (history.restored_step, len(history.records)) == (None, 1)


def test_a_step_is_not_taken_back_from_parameters_that_it_did_not_leave(blobs):
    one = trainer(rate=lambda step: 1e-2 if step < 12 else 1e30)
    one.fit(
        blobs,
        steps=12,
        batch_size=16,
        evaluate_every=4,
        validation=0.2,
        callbacks=[never_better(restore_best=True)],
    )
    before = one.model.parameters()
    x, y = blobs.x_train[:16], blobs.y_train[:16]
    bad = np.full_like(x, 3e38)
    with pytest.raises(fg.DivergenceError) as caught:
        one.step(bad, y)
    assert not caught.value.kept
    assert_alike(one.model.parameters(), before)
    one.step(x, y)


SEEN = [0.5, 0.6, 0.6, 0.65, 0.4, math.nan, 0.7, 0.1]


@pytest.mark.parametrize(
    ("options", "ended", "best"),
    [
        ({"patience": 2}, 6, 4),
        ({"patience": 3}, None, 7),
        ({"patience": 3, "min_delta": 0.06}, 5, 2),
        ({"patience": 2, "min_delta": 0.1}, 3, 1),
        ({"patience": 4, "monitor": "validation_loss"}, None, 8),
        ({"patience": 3, "monitor": "validation_loss"}, 4, 1),
        ({"patience": 1, "monitor": "validation_loss"}, 2, 1),
    ],
)
def test_what_is_better(options, ended, best):
    stopping = EarlyStopping(**options)
    for step, figure in enumerate(SEEN, 1):
        if stopping.ends(fg.Record(step, 1.0, 1.0, validation_loss=figure, validation_accuracy=figure)):
            assert step == ended
            break
    else:
        assert ended is None
    assert (stopping.best_step, stopping.best) == (best, SEEN[best - 1])


def test_a_new_run_begins_with_new_patience(blobs):
    stopping = never_better()
    options = {"batch_size": 16, "evaluate_every": 4, "validation": 0.2, "callbacks": [stopping]}
    for _ in range(2):
        assert trainer().fit(blobs, steps=90, **options).final.step == 12


def test_without_steps_and_epochs_there_is_a_most(blobs):
    class Told(fg.Callback):
        def on_start(self, trainer, steps):
            self.steps = steps

    told = Told()
    assert trainer().fit(blobs, validation=0.2, callbacks=[never_better(), told]).ended_early
    assert told.steps == 10_000


def test_any_callback_may_end_a_run(blobs):
    class Ends(fg.Callback):
        def ends(self, record):
            assert math.isnan(record.test_accuracy)
            return record.loss > 0 and record.step >= 8

    kept = Kept()
    history = trainer().fit(
        blobs, steps=90, batch_size=16, evaluate_every=4, callbacks=[Ends(), kept, fg.Callback()]
    )
    assert history.ended_early
    assert [r.step for r in kept.told] == [4, 8]
    assert np.isfinite(history.final.test_accuracy)
    assert kept.ended == 1


def test_a_run_that_is_stopped_has_no_test_figures(blobs):
    class Stop(fg.Callback):
        def on_start(self, trainer, steps):
            self.trainer = trainer

        def on_record(self, record):
            self.trainer.stop()

    history = trainer().fit(blobs, steps=9, batch_size=16, evaluate_every=4, callbacks=[Stop()])
    assert (history.stopped, history.ended_early) == (True, False)
    assert math.isnan(history.final.test_accuracy)


def test_divergence_goes_back_to_the_last_good_parameters_not_to_the_best(blobs):
    kept = Kept()
    one = trainer(rate=lambda step: 1e-3 if step < 13 else 20.0)
    with pytest.raises(fg.DivergenceError, match="the parameters after step 12 are restored"):
        one.fit(
            blobs,
            steps=90,
            batch_size=16,
            evaluate_every=4,
            validation=0.2,
            stop_above=3,
            callbacks=[kept, never_better(50, restore_best=True)],
        )
    assert_alike(one.model.parameters(), kept.at[12])


def test_a_run_that_diverges_says_what_its_parameters_reach(tmp_path, blobs):
    for share in (None, 0.2):
        saved = fg.Checkpoints(tmp_path / str(share))
        one = trainer(rate=lambda step: 1e-3 if step < 13 else 20.0)
        options = {"batch_size": 16, "evaluate_every": 4, "stop_above": 3, "checkpoints": saved}
        with pytest.raises(fg.DivergenceError):
            one.fit(blobs, steps=90, validation=share, **options)
        assert [r.step for r in saved.records] == [4, 8, 12]
        tested = fg.evaluate(one.model, blobs.x_test, blobs.y_test)
        assert all(math.isnan(r.test_loss) for r in saved.records[:2])
        assert saved.records[-1].test_loss == tested.loss
        assert metrics.read_records(saved.folder / "metrics.jsonl") == saved.records


@pytest.mark.parametrize("share", [None, 0.2])
def test_test_data_do_not_decide_what_a_run_that_diverges_goes_back_to(blobs, share):
    # Test data whose loss is never finite: whatever asked it would go back to other parameters.
    never = fg.datasets.Dataset("never", blobs.x_train, blobs.y_train, blobs.x_test * 1e38, blobs.y_test, 3)
    found = []
    for data in (blobs, never):
        for options in ({}, {"stop_above": 3}):
            one = trainer(seed=2, rate=lambda step: 1e-3 if step < 13 else 1e30)
            with pytest.raises(fg.DivergenceError) as caught:
                one.fit(data, steps=90, batch_size=16, evaluate_every=4, validation=share, **options)
            found.append((str(caught.value), one.model.parameters()))
    for ordinary, other in zip(found[:2], found[2:], strict=True):
        assert ordinary[0] == other[0]
        assert_alike(ordinary[1], other[1])


def test_a_resumed_run_takes_back_records_whose_loss_is_no_number(tmp_path, blobs):
    x, y = blobs.x_test * 1e38, blobs.y_test
    options = {"batch_size": 16, "evaluate_every": 4, "validation": (x, y)}
    for resume, steps in ((False, 9), (True, 9)):
        saved = fg.Checkpoints(tmp_path)
        trainer().fit(blobs, steps=steps, checkpoints=saved, resume=resume, **options)
    # Told that it has ended, with a record of the step to be written anew.
    saved = fg.Checkpoints(tmp_path)
    history = trainer().fit(blobs, steps=12, checkpoints=saved, resume=True, **options)
    found = metrics.read_records(tmp_path / "metrics.jsonl")
    assert [record.step for record in found] == [record.step for record in history.records]
    assert not math.isfinite(found[-1].validation_loss)
    assert math.isfinite(found[-1].validation_accuracy)


def test_lines_have_what_was_taken(tmp_path, blobs):
    saved = fg.Checkpoints(tmp_path)
    trainer().fit(blobs, steps=4, batch_size=16, evaluate_every=2, validation=0.2, checkpoints=saved)
    first, last = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_bytes().splitlines())
    assert {*first} == {
        *("step", "epoch", "loss", "learning_rate", "seconds"),
        *("validation_loss", "validation_accuracy"),
    }
    assert {*last} - {*first} == {"test_loss", "test_accuracy"}
    assert metrics.read_records(tmp_path / "metrics.jsonl") == saved.records


@pytest.mark.parametrize(
    ("validation", "error", "message"),
    [
        (
            0,
            fg.ConfigError,
            r"validation is 0; a share of the training data between 0 and 1, a pair \(x, y\)",
        ),
        (1.0, fg.ConfigError, "validation is 1.0"),
        (True, fg.ConfigError, "validation is True"),
        ("0.1", fg.ConfigError, "validation is '0.1'"),
        (math.nan, fg.ConfigError, "validation is nan"),
        pytest.param(10**400, fg.ConfigError, "validation is a number of 1329 bits", id="10**400"),
        ((1, 2, 3), fg.ConfigError, r"validation is \(1, 2, 3\)"),
        (1e-3, fg.DatasetError, "blobs: 0.001 of 70 training examples leave none to validate on"),
        ((np.zeros((2, 5)), [0, 1]), fg.ShapeError, r"^validation: x has shape \(2, 5\); \(n, 6\)"),
        ((np.zeros((2, 6)), [0]), fg.ShapeError, "^validation: x has 2 examples and y 1 targets"),
        (
            (np.zeros((2, 6)), [0, 3]),
            fg.DatasetError,
            r"^validation: y\[1\] is 3; the model's classes are \[0, 1, 2\]",
        ),
        ((np.full((2, 6), np.inf), [0, 1]), fg.DatasetError, r"^validation: x\[0, 0\] is inf"),
        ((np.zeros((2, 6)), [0.5, 1]), fg.DtypeError, r"^validation: y\[0\] is 0.5, which is no class label"),
    ],
)
def test_validation_parts_that_are_none(blobs, validation, error, message):
    one = trainer()
    with pytest.raises(error, match=message):
        one.fit(blobs, steps=2, validation=validation)
    assert one.steps_done == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 0}, "patience is 0"),
        ({"patience": 2.5}, "patience is 2.5"),
        ({"monitor": "validation_los"}, "did you mean 'validation_loss'"),
        ({"monitor": ["loss"]}, "unknown figure"),
        ({"min_delta": -1}, "min_delta is -1"),
        ({"restore_best": 1}, "restore_best is 1; True or False"),
    ],
)
def test_early_stopping_that_cannot_be(options, message):
    with pytest.raises(fg.ConfigError, match=message):
        EarlyStopping(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"callbacks": [EarlyStopping()]}, "EarlyStopping needs validation data, such as validation=0.1"),
        ({"callbacks": [EarlyStopping(), EarlyStopping()], "validation": 0.2}, "2 are EarlyStopping; one is"),
        ({"callbacks": [EarlyStopping()], "validation": 0.2, "epochs": 1}, "epochs and steps are both given"),
    ],
)
def test_runs_that_cannot_be(blobs, options, message):
    with pytest.raises(fg.ConfigError, match=message):
        trainer().fit(blobs, **{"steps": 3, **options})
