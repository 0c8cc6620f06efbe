"""Replay: the parameters of any step from the initial ones and a run's log, without data and without a pass.

A step of weight perturbation is a function of seed, step, learning rate and a number c_t a direction
(``fgnumba.estimators.weight_update``). The log (``fgnumba.training.replay_log``) keeps these, and the update of each
step is run again with the kernels that ran it: parameters, the optimiser's moments and a control variate come out
bit for bit.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, RunError
from fgnumba.estimators import Update
from fgnumba.layers.parameters import digest
from fgnumba.storage.durable import AppendLog
from fgnumba.training.position import Position
from fgnumba.training.replay_log import Header, Log, ReplayLog, read
from fgnumba.training.state import update_of
from fgnumba.training.steps import Steps
from fgnumba.validation import whole_number


def begin(trainer: Steps, log: AppendLog) -> ReplayLog:
    """Return the log of a run that begins, into an empty file.

    Raises
    ------
    ConfigError
        The estimator's steps cannot be taken again, or some have been taken.
    """
    _check_fresh(trainer)
    assert log.size == 0
    return ReplayLog(log, _header(trainer))


def resume(trainer: Steps, log: AppendLog) -> ReplayLog:
    """Return the log of a run that goes on from where `trainer` stands, the log having been cut back to there.

    Raises
    ------
    ConfigError
        The log is another run's.
    RunError
        It is damaged, or does not end where the trainer stands.
    """
    log.flush()
    found = read(log.path)
    _check_alike(trainer, found)
    if found.cut:
        raise RunError(found.cut)
    if found.steps != trainer.steps_done:
        raise RunError(f"{log.path} ends at step {found.steps}; the run goes on at step {trainer.steps_done}")
    return ReplayLog(log, found.header, found.steps)


def replay(trainer: Steps, log: Log, step: int | None = None) -> None:
    """Take the steps of a log again, up to `step` (by default all): the trainer is then what the run's was there.

    Parameters
    ----------
    trainer : fresh, made with the run's arguments; its learning rates are not read.

    Raises
    ------
    ConfigError
        The log is another run's, or the trainer is not fresh.
    RunError
        The log does not reach `step`.
    """
    for _ in visits(trainer, log, step):
        pass


def visits(trainer: Steps, log: Log, step: int | None = None, every: int | None = None) -> Iterator[int]:
    """Take the steps again in one pass over the log, and yield how many at every multiple of `every` and at `step`.

    The trainer is at each what the run's was there: it may be read, not stepped. Where a step was taken back and
    another one taken, the number stands for the later.

    Raises
    ------
    ConfigError, RunError
        As :func:`replay`.
    """
    last = log.steps if step is None else whole_number("step", step, 0)
    every = whole_number("every", last + 1 if every is None else every)
    if last > log.steps:
        raise RunError(f"step {last} is beyond {log.path}: {log.cut or f'it ends at step {log.steps}'}")
    update = _checked_update(trainer, log)
    for taken in _taken(log):
        done = trainer.steps_done
        if not taken.undone:
            if done and done % every == 0 and done < last:
                _check_finite(update, log)
                yield done
            if done == last:
                break
        with trainer.model.lock:
            trainer.stream.host["step"] = taken.step
            trainer.optimizer.set_rates(trainer.rates.host, taken.step, taken.rate)
            trainer.push_step()
            after = Position(done + 1, taken.rate, update)
            trainer.move_by(after, lambda: update.runs, partial(update.run, taken.coefficients))
            back = update.taking_back(taken.rate) if taken.undone else None
            if back is not None:
                trainer.move_by(Position(done), partial(getattr, back, "runs"), back.run)
    _check_finite(update, log)
    yield last


class _Taken(NamedTuple):
    step: int
    rate: float
    coefficients: npt.NDArray[np.float32]
    undone: bool


def _taken(log: Log) -> Iterator[_Taken]:
    """Yield the steps of a log; `undone`: what follows is that the update is taken back."""
    for block, following in pairwise(chain(log.blocks(), [None])):
        assert block is not None
        count = len(block.rates)
        undone = following is not None and len(following.rates) == 0
        for i in range(count):
            rate = float(block.rates[i])
            yield _Taken(block.first + i, rate, block.coefficients[i], undone and i == count - 1)


def _check_finite(update: Update, log: Log) -> None:
    if not update.finite:
        raise RunError(f"{log.path} is damaged: one of its updates is not finite in float32")


def _header(trainer: Steps) -> Header:
    estimator, optimizer, model = trainer.estimator, trainer.optimizer, trainer.model
    rule = estimator.update_rule
    if rule is None:
        raise ConfigError(
            f"estimator {estimator.name!r}: its steps cannot be taken again without data; those of weight "
            "perturbation can"
        )
    lines = [rule.text, type(optimizer).__name__, f"rule {optimizer.rule}"]
    # η is in the log; 0 and 0.0 are one number.
    lines += [f"{name} {float(value)!r}" for name, value in sorted(optimizer.constants().items())]
    lines += [f"{p.index} {p.name} {p.shape} {p.groups}" for p in model.packed_parameters.values()]
    return Header(
        rule.directions,
        trainer.seed,
        hashlib.sha256("\n".join(lines).encode()).digest(),
        bytes.fromhex(digest(model.parameters())),
        model.device,
    )


def _check_fresh(trainer: Steps) -> None:
    if trainer.steps_done:
        raise ConfigError(f"the trainer has taken {trainer.steps_done} steps; a fresh one is required")


def _check_alike(trainer: Steps, log: Log) -> Header:
    """Return the trainer's header, having checked that its updates are those of the log."""
    ours, theirs = _header(trainer), log.header
    for what, our, their in (
        ("directions a step", ours.directions, theirs.directions),
        ("seed", ours.seed, theirs.seed),
        ("device", ours.device, theirs.device),
    ):
        if our != their:
            raise ConfigError(f"{log.path} is of another run: {what} {their!r}; here {our!r}")
    if ours.update != theirs.update:
        raise ConfigError(
            f"{log.path} is of another run: its estimator, its optimiser or the shapes of its parameters differ"
        )
    return ours


def _checked_update(trainer: Steps, log: Log) -> Update:
    _check_fresh(trainer)
    if _check_alike(trainer, log).initial != log.header.initial:
        raise ConfigError(f"{log.path} is of another run: it began with other parameters")
    return update_of(trainer)
