"""States of callbacks in checkpoints: kept, given back, and refused where they are not those of the run."""

import json

import pytest

import fgnumba as fg
from fgnumba.errors import ConfigError, RunError
from fgnumba.storage import checkpoint_file
from fgnumba.storage.checkpoint_file import CheckpointFile
from fgnumba.training.callbacks import EarlyStopping
from tests.training.test_copies import bits, blobs, trainer_of
from tests.training.test_early_stopping import early


class Counts(fg.Callback):
    """Counts steps over all parts of a run."""

    def __init__(self, by=1, stop=None):
        self.by, self.stop, self.count, self.resumed = by, stop, 0, []

    @property
    def statement(self):
        return f"by {self.by}"

    @property
    def state(self):
        return {"count": self.count}

    @state.setter
    def state(self, seen):
        self.count = seen["count"] + 0

    def on_start(self, trainer, steps):
        self.trainer, self.count = trainer, 0

    def on_resume(self, trainer, steps, done):
        self.trainer = trainer
        self.resumed.append((done, self.count))

    def on_step(self, step, result):
        self.count += self.by
        if step == self.stop:
            self.trainer.stop()


def fit(callbacks, folder, resume=False, steps=12):
    trainer = trainer_of("feedback", "adam")
    trainer.fit(
        blobs(),
        steps=steps,
        batch_size=16,
        evaluate_every=3,
        validation=0.2,
        callbacks=callbacks,
        checkpoints=fg.Checkpoints(folder),
        resume=resume,
    )
    return trainer


def test_a_callback_goes_on_with_its_state(tmp_path):
    fit([Counts(1, stop=5), Counts(10)], tmp_path)
    again = [Counts(10), Counts(1)]
    fit(again, tmp_path, True)
    assert [one.resumed for one in again] == [[(5, 50)], [(5, 5)]]
    assert [one.count for one in again] == [120, 12]


def test_callbacks_of_one_kind_get_their_states_in_their_order(tmp_path):
    class Shared(Counts):
        def on_step(self, step, result):
            super().on_step(step, result)
            if len(shared) == 2 and self is shared[1]:
                self.count += 100

    shared = [Shared(), Shared(stop=5)]
    fit(shared, tmp_path)
    shared = [Shared(), Shared(), Counts()]  # type: ignore[list-item]
    fit(shared, tmp_path, True)
    assert [one.resumed for one in shared] == [[(5, 5)], [(5, 505)], [(5, 0)]]


def test_a_callback_may_be_left_out_of_a_part_of_a_run(tmp_path):
    fit([Counts(stop=5)], tmp_path)
    fit([], tmp_path, True)
    assert CheckpointFile(tmp_path / "checkpoints/step-000000000012.safetensors").facts["callbacks"] == []


def test_other_settings_are_refused_and_change_nothing(tmp_path):
    fit([Counts(stop=5)], tmp_path)
    trainer = trainer_of("feedback", "adam")
    before = bits(trainer)
    with pytest.raises(RunError, match="Counts is 'by 1'; the run that continues has 'by 2'"):
        trainer.fit(
            blobs(),
            steps=12,
            batch_size=16,
            validation=0.2,
            callbacks=[Counts(2)],
            checkpoints=fg.Checkpoints(tmp_path),
            resume=True,
        )
    assert bits(trainer) == before


def rewritten(folder, change):
    """Change the facts of the newest checkpoint in a folder."""
    path = max((folder / "checkpoints").glob("step-*.safetensors"))
    kept = CheckpointFile(path)
    change(kept.facts)
    checkpoint_file.write(path, kept.facts, {name: kept.array(name) for name in kept.entries})


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, r"the states of callbacks are \{\}"),
        ([3], r"the states of callbacks are \[3\]"),
        ([{"callback": "Counts"}], "callback, state, statement are required"),
        ([{"callback": 1, "statement": "by 1", "state": {}}], "the states of callbacks are"),
        ([{"callback": "Counts", "statement": ["by 1"], "state": {}}], "the states of callbacks are"),
        ([{"callback": "Counts", "statement": "by 1", "state": {}}] * 1001, "the states of callbacks are"),
        ([{"callback": "Counts", "statement": "by 1", "state": {}}], r"the state of Counts is \{\}, which"),
        ([{"callback": "Counts", "statement": "by 1", "state": None}], "the state of Counts is None, which"),
        (
            [{"callback": "Counts", "statement": "by 1", "state": {"count": "x"}}],
            r"the state of Counts is \{'count': 'x'\}, which is impossible",
        ),
    ],
)
def test_states_that_cannot_be(tmp_path, found, message):
    fit([Counts(stop=5)], tmp_path)
    rewritten(tmp_path, lambda facts: facts.update(callbacks=json.loads(json.dumps(found))))
    trainer = trainer_of("feedback", "adam")
    before = bits(trainer)
    with pytest.raises(RunError, match=message) as caught:
        trainer.fit(
            blobs(),
            steps=12,
            batch_size=16,
            validation=0.2,
            callbacks=[Counts()],
            checkpoints=fg.Checkpoints(tmp_path),
            resume=True,
        )
    assert "\n" not in str(caught.value)
    assert bits(trainer) == before


@pytest.mark.parametrize(
    "state",
    [{"best": 1}, {"best": 1, "best_step": 2, "waited": 0}, {"best": 0.5, "best_step": -2, "waited": 0}, 7],
)
def test_a_state_of_early_stopping_that_cannot_be(state):
    with pytest.raises(ConfigError, match="early stopping"):
        EarlyStopping().state = state


def test_a_state_that_json_cannot_hold_is_refused_before_the_first_step(tmp_path):
    class Holds(Counts):
        @property  # type: ignore[misc]
        def state(self):
            return {"model": self.trainer.model}

    with pytest.raises(ConfigError, match=r"the state of Holds is .* values that JSON can hold are required"):
        fit([Holds()], tmp_path)
    assert not (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("stop", [4, 6, 11])
def test_a_checkpoint_of_before_goes_on_bit_for_bit(tmp_path, stop):
    """Earlier versions kept the state of early stopping alone, among the facts of the run's end."""

    def stopping():
        return EarlyStopping(3, min_delta=2.0, restore_best=True)

    whole = trainer_of("feedback", "adam")
    history = whole.fit(
        blobs(), steps=40, batch_size=16, evaluate_every=3, validation=0.2, callbacks=[stopping()]
    )
    assert (history.ended_early, history.final.step) == (True, 12)
    fit([stopping(), Counts(stop=stop)], tmp_path, steps=40)

    def as_before(facts):
        (kept,) = (one for one in facts.pop("callbacks") if one["callback"] == "EarlyStopping")
        facts["early"] = early(seen=kept["state"], best=facts["early"]["best"])

    rewritten(tmp_path, as_before)
    again = fit([stopping()], tmp_path, True, steps=40)
    assert bits(again) == bits(whole)
    assert again.steps_done == 12
