"""Resumption with damaged files or after divergence: nothing is lost, and the run ends as it should."""

import errno
import json

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import RunError
from fgnumba.storage import checkpoint_file
from fgnumba.storage.checkpoint_file import CheckpointFile
from fgnumba.storage.durable import AppendLog
from fgnumba.training import replay, replay_log
from fgnumba.training.state import restore, snapshot
from tests.training.test_checkpoints import STEPS, bits, blobs, fit, steps_on_disk, trainer, without_time  # noqa: F401


@pytest.fixture
def data(blobs):  # noqa: F811
    return blobs


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"fgreplay")])
def test_a_run_outlives_its_log_of_scalars(tmp_path, data, change):
    whole, resumed = trainer(), trainer()
    fit(whole, data)
    fit(trainer(), data, tmp_path, stop=(18,))
    change(tmp_path / "replay.log")
    with pytest.warns(RuntimeWarning, match="the run cannot be replayed"):
        fit(resumed, data, tmp_path, True)
    assert bits(resumed) == bits(whole)


def test_damage_is_said_again_and_costs_no_log(tmp_path, data):
    fit(trainer(), data, tmp_path, stop=(18,))
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    before = {name: (tmp_path / name).read_bytes() for name in ("metrics.jsonl", "replay.log")}
    for _ in range(2):
        with pytest.warns(RuntimeWarning), pytest.raises(RunError, match="no checkpoint is whole"):
            fit(trainer(), data, tmp_path, True)
        assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_what_cannot_be_read_now_is_not_damaged(tmp_path, data, monkeypatch):
    whole, resumed = trainer(), trainer()
    fit(whole, data)
    fit(trainer(), data, tmp_path, stop=(18,))

    def refuse(path):
        raise OSError(errno.EMFILE, "Too many open files", path)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_file, "open_regular", refuse)
        with pytest.raises(RunError, match="cannot be read: Too many open files"):
            fit(trainer(), data, tmp_path, True)
    fit(resumed, data, tmp_path, True)
    assert bits(resumed) == bits(whole)


def test_a_run_that_has_ended_is_left_alone(tmp_path, data):
    fit(trainer(), data, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    before = (tmp_path / "metrics.jsonl").read_bytes()
    for resume in (False, True):
        with pytest.raises(RunError, match=r"has ended; name another folder|holds another run"):
            fit(trainer(), data, tmp_path, resume)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_compact_checkpoint_that_its_log_does_not_reach_is_passed_over(tmp_path, data):
    whole, resumed = trainer(), trainer()
    fit(whole, data)
    fit(trainer(), data, tmp_path, stop=(18,), compact=True)
    assert steps_on_disk(tmp_path) == [15, 18]
    log = tmp_path / "replay.log"
    log.write_bytes(log.read_bytes()[:-1])
    said: list[str] = []
    fit(resumed, data, tmp_path, True, compact=True, warn=said.append)
    assert bits(resumed)[1] == bits(whole)[1]
    assert "step-000000000018.safetensors cannot be rebuilt: " in said[0]
    assert said[0].endswith("; the one before it is used")


def rising(one):
    """Return a trainer like `one` whose rate leaps at step 16."""
    return fg.Trainer(
        one.model,
        estimator=one.estimator,
        optimizer=fg.Adam(lambda step: 1e-2 if step < 16 else 10.0),
        seed=one.seed,
    )


def diverged(one, data, folder, resume=False, compact=False, stop=()):
    """Train until the loss is too great; return what is left."""
    saved = fg.Checkpoints(folder, every=5, compact=compact)
    from tests.training.test_checkpoints import Stop

    options = {"steps": STEPS, "batch_size": 16, "evaluate_every": 7, "stop_above": 3.0}
    with pytest.raises(fg.DivergenceError) as caught:
        one.fit(data, callbacks=[Stop(*stop)], checkpoints=saved, resume=resume, **options)
    return str(caught.value), without_time(saved.records), one.model.parameters()


@pytest.mark.parametrize("compact", [False, True])
def test_a_run_that_diverges_after_it_was_resumed_ends_as_one_that_was_not(tmp_path, data, compact):
    message, records, parameters = diverged(rising(trainer()), data, tmp_path / "whole")
    assert "the parameters after step 14 are restored" in message
    saved = fg.Checkpoints(tmp_path / "cut", every=5, compact=compact)
    from tests.training.test_checkpoints import Stop

    one = rising(trainer())
    options = {"steps": STEPS, "batch_size": 16, "evaluate_every": 7, "stop_above": 3.0}
    assert one.fit(data, callbacks=[Stop(16)], checkpoints=saved, **options).stopped
    resumed = diverged(rising(trainer()), data, tmp_path / "cut", True, compact)
    assert resumed[:2] == (message, records)
    for name, array in resumed[2].items():
        np.testing.assert_array_equal(array, parameters[name])
    again = rising(trainer())
    replay.replay(again, replay_log.read(tmp_path / "cut" / "replay.log"))
    for name, array in again.model.parameters().items():
        np.testing.assert_array_equal(array, parameters[name])


def test_what_is_kept_is_what_the_last_record_is_of(tmp_path, data):
    # The eighth update is so great that the next loss is not finite: it is taken back, after its record.
    for every, steps in ((8, [7]), (7, [7]), (4, [4, 7])):
        one = fg.Trainer(tall(), optimizer=fg.SGD(lambda step: 1e-3 if step < 7 else 1e5), seed=5)
        saved = fg.Checkpoints(tmp_path / str(every))
        with pytest.raises(fg.DivergenceError) as caught:
            one.fit(data, steps=STEPS, batch_size=16, evaluate_every=every, checkpoints=saved)
        assert caught.value.kept
        assert one.steps_done == 7
        assert [record.step for record in saved.records] == steps
        assert np.isfinite(saved.records[-1].test_loss)
        lines = (tmp_path / str(every) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["step"] for line in lines] == steps


def tall():
    """Return a model whose outputs are parameters to the tenth power, and soon beyond float32."""
    layers = [fg.Flatten(), *(fg.Dense(9) for _ in range(9)), fg.Dense(3)]
    return fg.Sequential(layers, (6, 6, 1), seed=3)


def test_parameters_that_are_lost_to_rounding_are_those_of_the_last_record(tmp_path, data):
    # Beside an update of 1e30, parameters are lost. Where multiply-adds fuse, taking it back leaves roundings of 1e23,
    # whose loss is not finite: the last record's are restored. Where each product is rounded, it leaves exactly 0,
    # whose loss is finite: these are kept.
    one = fg.Trainer(trainer().model, optimizer=fg.SGD(lambda step: 1e-3 if step < 7 else 1e30), seed=5)
    saved = fg.Checkpoints(tmp_path)
    with pytest.raises(fg.DivergenceError) as caught:
        one.fit(data, steps=STEPS, batch_size=16, evaluate_every=4, checkpoints=saved)
    outcomes = {
        "; but they are lost to rounding; the parameters after step 4 are restored": [4],
        "; the last good parameters are kept; try a learning rate of 1e+29 or less": [4, 7],
    }
    ((outcome, steps),) = [(end, steps) for end, steps in outcomes.items() if str(caught.value).endswith(end)]
    assert [record.step for record in saved.records] == steps
    if "kept" in outcome:
        assert not any(array.any() for array in one.model.parameters().values())
    assert fg.evaluate(one.model, data.x_test, data.y_test).loss == saved.records[-1].test_loss


def test_an_estimate_that_diverges_takes_no_step_back(data):
    one = fg.Trainer(trainer().model, optimizer=fg.SGD(lambda step: 1e-3 if step < 3 else 1e30), seed=5)
    batches = data.batches(16, 5)
    for _ in range(4):
        one.step(*next(batches))
    before = bits(one)
    with pytest.raises(fg.DivergenceError):
        one.estimate(*next(batches))
    assert bits(one) == before


@pytest.mark.parametrize("batch", [[], {}, "16", 17, 1 << 80, True])
def test_a_last_batch_that_is_none(tmp_path, data, batch):
    fit(trainer(), data, tmp_path, stop=(18,))
    path = tmp_path / "checkpoints" / "step-000000000018.safetensors"
    found = CheckpointFile(path)
    found.facts["trainer"]["last_batch"] = batch
    checkpoint_file.write(path, found.facts, {name: found.array(name) for name in found.entries})
    with pytest.raises(RunError, match="last_batch is "):
        fit(trainer(), data, tmp_path, True)


def test_a_snapshot_of_a_replayed_trainer_can_be_restored(tmp_path, data):
    fit(trainer(), data, tmp_path)
    one, other = trainer(), trainer()
    replay.replay(one, replay_log.read(tmp_path / "replay.log"), 9)
    facts, arrays = snapshot(one)
    path = tmp_path / "snapshot.safetensors"
    checkpoint_file.write(path, {"trainer": facts}, arrays)
    other.plan(16)
    restore(other, CheckpointFile(path))
    assert bits(other) == bits(one)


def test_a_log_whose_write_and_cut_fail_goes_on_where_it_was(tmp_path, monkeypatch):
    with AppendLog(tmp_path / "log") as log:
        log.append(b"first\n")
        log.flush()
        log.append(b"second\n")

        def torn(file, content):
            file.write(content[:3])
            raise OSError(errno.ENOSPC, "No space left on device")

        def fail(self):
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr("fgnumba.storage.durable.write_all", torn)
            patched.setattr(AppendLog, "_cut", fail)
            with pytest.raises(OSError, match="No space"):
                log.flush()
        log.flush()
        assert (log.size, log.read()) == (13, b"first\nsecond\n")
    assert (tmp_path / "log").read_bytes() == b"first\nsecond\n"


def test_a_log_is_cut_within_what_waits(tmp_path):
    with AppendLog(tmp_path / "log") as log:
        log.append(b"one")
        log.flush()
        log.append(b"two")
        mark = log.size
        log.append(b"three")
        log.cut(mark)
        assert log.size == 6
        log.flush()
        log.cut(2)
        assert log.read() == b"on"
