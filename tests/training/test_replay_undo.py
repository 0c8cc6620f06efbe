"""Updates that were taken back when training diverged: a replay repeats them and takes them back, to the same bits."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import DivergenceError
from fgnumba.storage.durable import AppendLog
from fgnumba.training import replay
from fgnumba.training.replay_log import read
from tests.training.test_replay import BATCH, CLASSES, batch, check_every_state, state

RATES = {6: 1e5, 9: 1e5}
"""Two steps far too long: the pass after each is not finite, and the update is taken back."""


def tall():
    """Return a model whose outputs are parameters to the tenth power.

    A step that makes them overflow is so short that float32 keeps the parameters beside it, whether multiply-adds
    fuse or not: what is taken back is not lost, and the next long step overflows again.
    """
    return fg.Sequential([*(fg.Dense(9) for _ in range(9)), fg.Dense(CLASSES)], 11, seed=2)


ZEROS = np.zeros((BATCH, CLASSES), np.float32)


def diverging(momentum):
    rates = dict(RATES)
    # What taking back leaves is rounded to a long step's precision: steps are short after that.
    optimizer = fg.SGD(lambda step: rates.pop(step, 1e-3 if step < 6 else 1e-30), momentum=momentum)
    return fg.Trainer(tall(), loss=fg.MeanSquaredError(), optimizer=optimizer, seed=7)


def diverging_steps(trainer, log, steps):
    """Take and log steps, through divergence; return the states by steps taken, as they last were."""
    states = {}
    while trainer.steps_done < steps:
        try:
            trainer.step(batch(trainer, trainer.steps_done)[0], ZEROS)
        except DivergenceError:
            log.undone(trainer.steps_done)
        else:
            log.step(trainer.steps_done - 1, trainer.last_rate, trainer.bind(BATCH).coefficients())
        states[trainer.steps_done] = state(trainer)
    return states


def diverging_run(path, steps, momentum):
    with AppendLog(path) as file:
        log = replay.begin(diverging(momentum), file)
        states = diverging_steps(diverging(momentum), log, steps)
        log.end_block()
        file.flush()
    assert sum(len(block.rates) == 0 for block in read(path).blocks()) == len(RATES)
    return states


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("steps", [11, 14])
def test_updates_that_were_taken_back_are_taken_and_taken_back(tmp_path, momentum, steps):
    path = tmp_path / "replay.log"
    states = diverging_run(path, steps, momentum)
    check_every_state(diverging(momentum), path, states, every=1)
    for step in (6, 7, 9, 10):
        trainer = diverging(momentum)
        replay.replay(trainer, read(path), step)
        assert state(trainer) == states[step]


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_log_may_end_with_an_update_taken_back(tmp_path, momentum):
    path = tmp_path / "replay.log"
    trainer = diverging(momentum)
    with AppendLog(path) as file:
        log = replay.begin(trainer, file)
        diverging_steps(trainer, log, 7)
        with pytest.raises(DivergenceError):
            trainer.step(batch(trainer, 7)[0], ZEROS)
        log.undone(trainer.steps_done)
        file.flush()
    again = diverging(momentum)
    replay.replay(again, read(path))
    assert state(again) == state(trainer)
    assert (again.steps_done, again.position.last) == (6, None)
    # Taking back runs with rates of its own.
    assert again.rates.host["momentum"][0] == trainer.rates.host["momentum"][0] == momentum


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_last_step_of_a_replay_can_be_taken_back(tmp_path, momentum):
    path = tmp_path / "replay.log"
    undisturbed = diverging(momentum)
    with AppendLog(path) as file:
        log = replay.begin(undisturbed, file)
        diverging_steps(undisturbed, log, 7)
        log.end_block()
        file.flush()
    again = diverging(momentum)
    replay.replay(again, read(path))
    for trainer in (undisturbed, again):
        with pytest.raises(DivergenceError) as raised:
            trainer.step(batch(trainer, 7)[0], ZEROS)
        assert raised.value.kept
    assert state(again) == state(undisturbed)
    assert again.steps_done == 6
