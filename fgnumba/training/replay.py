"""Replay: rebuild the parameters after any step of a run from its initial ones and its log, without data or passes.

A step of weight perturbation depends only on the seed, the step's number, the learning rate and a coefficient c_t for
each direction (``fgnumba.estimators.weight_update``). The log (``fgnumba.training.replay_log``) holds these. Replay
repeats the update of each step with the kernels that ran it first, so that the parameters, the optimiser's moments and
a control variate are bit-identical to those of the run.
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
    """Return the log of a run that is about to begin. ``Checkpoints`` calls this; a program passes it to ``fit``.

    Parameters
    ----------
    trainer : Steps
        The run's trainer before its first step.
    log : AppendLog
        An empty file of the library's own kind, to which blocks are appended.

    Raises
    ------
    ConfigError
        The estimator's steps cannot be replayed, or the trainer has taken steps.
    """
    _check_fresh(trainer)
    assert log.size == 0
    return ReplayLog(log, _header(trainer))


def resume(trainer: Steps, log: AppendLog) -> ReplayLog:
    """Return the log of a run that continues. ``Checkpoints`` calls this; a program passes it to ``fit``.

    Parameters
    ----------
    trainer : Steps
        The run's trainer after some steps.
    log : AppendLog
        The run's log, cut back to these steps.

    Raises
    ------
    ConfigError
        The log is that of another run.
    RunError
        The log is damaged, or holds another number of steps than the trainer has taken.
    """
    log.flush()
    written = read(log.path)
    _check_alike(trainer, written)
    if written.cut:
        raise RunError(written.cut)
    if written.steps != trainer.steps_done:
        raise RunError(
            f"{log.path} ends at step {written.steps}; the run goes on at step {trainer.steps_done}"
        )
    return ReplayLog(log, written.header, written.steps)


def replay(trainer: Steps, log: Log, step: int | None = None) -> None:
    """Repeat the updates of a log, so that the trainer is in the state in which the run's was after a step.

    Parameters
    ----------
    trainer : Steps
        A new trainer with the run's arguments. Its learning rates are not used, since the log holds them.
    log : Log
        The run's log.
    step : int, optional
        Number of steps to repeat. None (the default): all.

    Raises
    ------
    ConfigError
        The log is that of another run, or the trainer has taken steps.
    RunError
        The log holds fewer steps than `step`.
    """
    for _ in visits(trainer, log, step):
        pass


def visits(trainer: Steps, log: Log, step: int | None = None, every: int | None = None) -> Iterator[int]:
    """Repeat the updates of a log in one pass over it, and pause after some steps.

    At each pause the trainer is in the state in which the run's was after that step. It may be read there, but must not
    be stepped. If the run took a step back and then took another one of the same number, the later one counts.

    Parameters
    ----------
    trainer : Steps
        A new trainer with the run's arguments.
    log : Log
        The run's log.
    step : int, optional
        Number of steps to repeat. None (the default): all.
    every : int, optional
        Number of steps between pauses. None (the default): the only pause is at the end.

    Yields
    ------
    int
        Number of steps repeated so far: each multiple of `every`, then `step`.

    Raises
    ------
    ConfigError, RunError
        As in :func:`replay`.
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
    """Yield the steps of a log; `undone` says that the run took the step's update back afterwards."""
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
    # The learning rate η is not part of the description, since the log holds it. `float` makes 0 and 0.0 equal.
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
    """Check that a trainer's updates are those of a log, and return the header of the trainer's own log."""
    ours, theirs = _header(trainer), log.header
    for quantity, our, their in (
        ("directions a step", ours.directions, theirs.directions),
        ("seed", ours.seed, theirs.seed),
        ("device", ours.device, theirs.device),
    ):
        if our != their:
            raise ConfigError(f"{log.path} is of another run: {quantity} {their!r}; here {our!r}")
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
