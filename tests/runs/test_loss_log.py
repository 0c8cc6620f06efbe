"""The loss of each step in the run folder: whole after an interruption, and never worth a run."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.runs import loss_log
from fgnumba.runs.loss_log import LOSSES, LossLog, read_losses
from fgnumba.storage.durable import AppendLog
from fgnumba.training.metrics import read_records
from fgnumba.training.records import StepResult
from tests.tolerances_pictures import DRAWN

TRAIN = ("train", "--widths", 8, "--quiet", "--out", "run")


class Saved(fg.Checkpoints):
    """Checkpoints whose log is given, or an error."""

    def __init__(self, folder, log):
        self.said = list[str]()
        super().__init__(folder, warn=self.said.append)
        self._given = log

    def log(self, name):
        if isinstance(self._given, Exception):
            raise self._given
        return self._given


class Kept(fg.Callback):
    """Keeps the loss of each step."""

    def __init__(self):
        self.losses = []

    def on_step(self, step, result):
        self.losses.append(result.loss)


def training(folder, steps, resume=False, ends_at=None):
    """Train in `folder`, up to a step at which it is stopped, and return the losses of the steps."""
    data = fg.datasets.load("digits")
    model = fg.Sequential([fg.Flatten(), fg.Dense(8, "relu"), fg.Dense(10)], data.input_shape, seed=0)
    trainer = fg.Trainer(model, estimator=fg.WeightPerturbation(), optimizer=fg.SGD(1e-3), seed=1)
    saved, kept = fg.Checkpoints(folder, every=4, minutes=None), Kept()

    class Stop(fg.Callback):
        def on_step(self, step, result):
            if step == ends_at:
                trainer.stop()

    trainer.fit(
        data,
        steps=steps,
        batch_size=16,
        evaluate_every=7,
        checkpoints=saved,
        resume=resume,
        callbacks=[LossLog(saved), kept, Stop()],
    )
    return kept.losses


def test_a_run_has_the_loss_of_each_step(fgtrain, folder):
    assert fgtrain(*TRAIN, "--steps", 25).code == 0
    losses = read_losses(folder / "run")
    assert losses is not None
    assert losses.shape == (25,)
    # A record's loss is the mean of those since the record before; the sums round in another order.
    begins = 0
    for record in read_records(folder / "run/metrics.jsonl"):
        DRAWN.check(np.mean(losses[begins : record.step]), record.loss)
        begins = record.step
    assert begins == 25


def test_a_run_that_is_interrupted_has_the_file_that_it_would_have(tmp_path):
    whole = training(tmp_path / "whole", 22)
    training(tmp_path / "parts", 22, ends_at=10)
    training(tmp_path / "parts", 22, resume=True)
    assert (tmp_path / "parts" / LOSSES).read_bytes() == (tmp_path / "whole" / LOSSES).read_bytes()
    np.testing.assert_array_equal(read_losses(tmp_path / "whole"), whole)


@pytest.mark.parametrize(("bytes_before", "done"), [(0, 5), (8, 5), (11, 5), (64, 5)])
def test_losses_that_are_missing_are_not_known(tmp_path, bytes_before, done):
    path = tmp_path / LOSSES
    path.write_bytes(np.ones(8).tobytes()[:bytes_before])
    with AppendLog(path) as log:
        one = LossLog(Saved(tmp_path, log))
        one.on_resume(None, 20, done)
        one.on_step(done + 1, StepResult(0.5, 0.0))
        log.flush()
    known = min(done, bytes_before // 8)
    expected = [1.0] * known + [np.nan] * (done - known) + [0.5]
    np.testing.assert_array_equal(read_losses(tmp_path), expected)


def test_a_damaged_log_costs_the_curve_alone(tmp_path):
    saved = Saved(tmp_path, OSError(f"{LOSSES} has 3 bytes; 8 are required"))
    one = LossLog(saved)
    one.on_resume(None, 20, 5)
    one.on_step(6, StepResult(0.5, 0.0))
    assert saved.said == [
        f"{tmp_path / LOSSES} is damaged: {LOSSES} has 3 bytes; 8 are required; "
        f"the curve of the run is made of its records"
    ]


def test_a_very_long_run_has_no_losses(tmp_path, monkeypatch):
    monkeypatch.setattr(loss_log, "MOST_STEPS", 21)
    training(tmp_path / "long", 22)
    assert not (tmp_path / "long" / LOSSES).exists()


@pytest.mark.parametrize(
    ("content", "steps"), [(b"", None), (b"1234567", None), (bytes(20), 2), (bytes(16), 2)]
)
def test_what_is_there_is_read(tmp_path, content, steps):
    (tmp_path / LOSSES).write_bytes(content)
    found = read_losses(tmp_path)
    assert (None if found is None else len(found)) == steps


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(loss_log, "MOST_STEPS", 2)
    (tmp_path / LOSSES).write_bytes(bytes(24))
    assert read_losses(tmp_path) is None
    assert read_losses(tmp_path / "nothing") is None
