"""The model of the best record in a file: they are there while the run goes on, and after it is resumed."""

import copy
import math
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import fgnumba as fg
from fgnumba.callbacks import BestCheckpoint
from fgnumba.errors import ConfigError
from tests.training.test_copies import blobs, trainer_of
from tests.training.test_kept_states import Counts

FIT: dict[str, Any] = {"batch_size": 16, "evaluate_every": 2, "validation": 0.2}


class Keeps(fg.Callback):
    """Keeps the parameters of every record, and what the file held then."""

    def __init__(self, path):
        self.path, self.parameters, self.files, self.records = path, {}, {}, []

    def on_start(self, trainer, steps):
        self.model = trainer.model

    def on_record(self, record):
        self.records.append(record)
        self.parameters[record.step] = self.model.parameters()
        self.files[record.step] = load_file(self.path)


def alike(found, expected):
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], array) for name, array in expected.items()
    )


@pytest.mark.parametrize(
    ("monitor", "sign"), [("validation_loss", -1), ("validation_accuracy", 1), ("loss", -1)]
)
def test_the_file_has_the_best_record_at_every_moment(tmp_path, monitor, sign):
    path = tmp_path / "deep" / "best.safetensors"
    best, keeps = BestCheckpoint(path, monitor), Keeps(path)
    trainer_of("feedback", "adam").fit(blobs(), steps=20, callbacks=[best, keeps], **FIT)
    values = {record.step: sign * getattr(record, monitor) for record in keeps.records}
    for step, found in keeps.files.items():
        so_far = {one: value for one, value in values.items() if one <= step}
        first = next(one for one, value in so_far.items() if value == max(so_far.values()))
        assert alike(found, keeps.parameters[first])
    assert (best.best, best.best_step) == (sign * max(values.values()), first)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_file_is_a_model(tmp_path):
    best, trainer = BestCheckpoint(tmp_path / "best.safetensors"), trainer_of("feedback", "adam")
    trainer.model.classes = ["a", "b", "c"]
    keeps = Keeps(best.path)
    trainer.fit(blobs(), steps=8, callbacks=[best, keeps], **FIT)
    loaded = fg.load(best.path, "cpu")
    assert alike(loaded.parameters(), keeps.parameters[best.best_step])
    assert loaded.nodes == trainer.model.nodes
    assert loaded.classes == ("a", "b", "c")
    trainer.model.load_parameters(loaded.parameters())
    trainer.model.save(tmp_path / "saved.safetensors")
    assert best.path.read_bytes() == (tmp_path / "saved.safetensors").read_bytes()


class OwnDense(fg.Dense):
    """A layer that no file can describe."""


def test_a_model_with_a_layer_that_cannot_be_named_is_written_as_its_parameters(tmp_path):
    class Nowhere(OwnDense):
        """A class that cannot be imported."""

    model = fg.Sequential([fg.Flatten(), Nowhere(3)], (4, 3, 2), device="cpu")
    best, keeps = BestCheckpoint(tmp_path / "best"), Keeps(tmp_path / "best")
    trainer = fg.Trainer(model, optimizer=fg.SGD(1e-3))
    trainer.fit(blobs(), steps=4, callbacks=[best, keeps], **FIT)
    assert alike(load_file(best.path), keeps.parameters[best.best_step])
    with pytest.raises(fg.RunError, match="holds tensors and no description of a model"):
        fg.load(best.path)


def test_a_model_with_a_layer_of_ones_own_asks_for_trust(tmp_path):
    model = fg.Sequential([fg.Flatten(), OwnDense(3)], (4, 3, 2), device="cpu")
    best = BestCheckpoint(tmp_path / "best")
    fg.Trainer(model, optimizer=fg.SGD(1e-3)).fit(blobs(), steps=4, callbacks=[best], **FIT)
    with pytest.raises(fg.CodeError, match="OwnDense"):
        fg.load(best.path)


@pytest.mark.parametrize("stop", [1, 3, 4, 11])
def test_a_resumed_run_goes_on_with_what_was_best(tmp_path, stop):
    # The loss is best at its first record: nothing after it may replace the file.
    rates = {"rate": lambda step: 1e-2 if step < 2 else 0.5}

    def trainer():
        model = fg.Sequential([fg.Flatten(), fg.Dense(9, activation="relu"), fg.Dense(3)], (4, 3, 2), seed=3)
        return fg.Trainer(model, estimator=fg.WeightPerturbation(), optimizer=fg.SGD(rates["rate"]), seed=1)

    whole, path = BestCheckpoint(tmp_path / "whole.safetensors"), tmp_path / "best.safetensors"
    trainer().fit(blobs(), steps=12, callbacks=[whole], **FIT)
    saved = fg.Checkpoints(tmp_path / "run", every=3)
    trainer().fit(
        blobs(), steps=12, callbacks=[BestCheckpoint(path), Counts(stop=stop)], checkpoints=saved, **FIT
    )
    again = BestCheckpoint(path)
    trainer().fit(blobs(), steps=12, callbacks=[again], checkpoints=saved, resume=True, **FIT)
    assert (again.best, again.best_step) == (whole.best, whole.best_step)
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_a_file_that_is_gone_is_written_at_the_next_record(tmp_path):
    path, saved = tmp_path / "best.safetensors", fg.Checkpoints(tmp_path / "run")
    for resume, steps in ((False, 4), (True, 6)):
        best = BestCheckpoint(path)
        trainer_of("feedback", "adam").fit(
            blobs(), steps=steps, callbacks=[best], checkpoints=saved, resume=resume, **FIT
        )
        assert path.exists()
        path.unlink()
    assert best.best_step == 6


def test_an_object_that_knows_another_run_forgets_it(tmp_path):
    best, saved = BestCheckpoint(tmp_path / "best.safetensors"), fg.Checkpoints(tmp_path / "run")
    trainer_of("feedback", "adam").fit(blobs(), steps=2, checkpoints=saved, **FIT)
    trainer_of("feedback", "adam").fit(blobs(), steps=20, callbacks=[best], **FIT)
    assert best.best_step > 4
    trainer_of("feedback", "adam").fit(
        blobs(), steps=4, callbacks=[best], checkpoints=saved, resume=True, **FIT
    )
    assert best.best_step == 4


def test_a_full_disk_costs_no_run(tmp_path, monkeypatch):
    path = tmp_path / "best.safetensors"
    said: list[str] = []
    best = BestCheckpoint(path, warn=said.append)
    full = True

    def replace(path, content):
        if full:
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr("fgnumba.training.best_checkpoint.replace", replace)

    class Frees(fg.Callback):
        def on_end(self, history):
            nonlocal full
            full = False

    history = trainer_of("feedback", "adam").fit(blobs(), steps=8, callbacks=[Frees(), best], **FIT)
    assert history.ended_by == "steps"
    (line,) = said
    assert line.startswith(f"{path}: the model of step 2 is not written, training goes on: No space")
    assert path.exists()


def test_without_somewhere_to_say_it_a_full_disk_is_a_warning(tmp_path, monkeypatch):
    def replace(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fgnumba.training.best_checkpoint.replace", replace)
    with pytest.warns(RuntimeWarning, match="is not written, training goes on"):
        trainer_of().fit(blobs(), steps=2, callbacks=[BestCheckpoint(tmp_path / "best")], **FIT)


def test_a_loss_that_is_nan_is_never_the_best(tmp_path):
    best = BestCheckpoint(tmp_path / "best.safetensors")
    best.on_start(trainer_of(), 2)
    best.on_record(fg.Record(1, 1.0, 1.0, validation_loss=math.nan, validation_accuracy=0.5))
    assert best.best is None
    assert not best.path.exists()


def test_a_copy_does_not_hold_the_originals_trainer(tmp_path):
    best = BestCheckpoint(tmp_path / "best.safetensors")
    best.on_start(trainer_of(), 2)
    assert copy.deepcopy(best)._trainer is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"monitor": "test_loss"}, "monitor: unknown figure 'test_loss'"),
        ({"monitor": "validation_x"}, "mode='max' or mode='min' is required"),
        ({"mode": "most"}, "mode is 'most'; 'max' or 'min' is required"),
        ({"path": "a\0b"}, "a path holds no null byte"),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        BestCheckpoint(**{"path": "best.safetensors", **options})


def test_validation_data_are_needed_unless_the_training_loss_decides(tmp_path):
    fit = {"steps": 2, "batch_size": 16}
    with pytest.raises(ConfigError, match=r"needs validation data, such as validation=0\.1"):
        trainer_of().fit(blobs(), callbacks=[BestCheckpoint(tmp_path / "a")], **fit)
    trainer_of().fit(blobs(), callbacks=[BestCheckpoint(tmp_path / "a", "loss")], **fit)
    assert (tmp_path / "a").exists()
