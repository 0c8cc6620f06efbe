"""The state of a trainer between two steps: everything on which its further steps depend."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, RunError, shown
from fgnumba.estimators import Estimate, Setting, Update
from fgnumba.kernels.rules.philox import MAX_STEP
from fgnumba.layers.losses import Loss
from fgnumba.layers.parameters import assign_all
from fgnumba.objects.fingerprint import fingerprint, statement
from fgnumba.storage.checkpoint_file import CheckpointFile
from fgnumba.training.position import Position
from fgnumba.training.steps import Steps

GOOD, BEST = "good.", "best."
"""Prefixes of parameters' names in a checkpoint: those to which a run returns if it diverges, and its best ones."""
FORMAT = 1
"""Version of the arrays in which a trainer's state is kept: of their names, and of how the kernels pack them."""


def snapshot(trainer: Steps, batch: int | None = None) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return the state of a trainer.

    Parameters
    ----------
    trainer : Steps
        The trainer.
    batch : int, optional
        Batch size of the run. A last step of another size cannot be taken back after the state is restored. None (the
        default): a last step of any size can.

    Returns
    -------
    facts : dict
        Values that JSON can hold.
    arrays : dict of str to ndarray
        Arrays by their names, as the kernels pack them. On the CPU they are the trainer's own arrays and no copies.
    """
    facts = {
        "format": FORMAT,
        "seed": trainer.seed,
        "steps_done": trainer.steps_done,
        "last_rate": trainer.last_rate,
        "last_batch": None if batch not in (None, trainer.position.batch) else trainer.position.batch,
        **_kind(trainer),
    }
    # A replayed update belongs to no estimate, and cannot be taken back after the state is restored.
    last = None if facts["last_batch"] is None else trainer.position.last
    return facts, {
        name: trainer.model.processor.values(array) for name, array in _held(trainer, last).items()
    }


def restore(trainer: Steps, found: CheckpointFile) -> None:
    """Restore the state of a trainer from a checkpoint, for which :func:`snapshot` returned it.

    Parameters
    ----------
    trainer : Steps
        The trainer. Its estimate for the run's batch size must have been bound, which creates the arrays to restore.
    found : CheckpointFile
        The checkpoint.

    Raises
    ------
    RunError
        The state is that of another kind of trainer or model. Nothing is changed.
    """
    done, facts = checked_steps(trainer, found), found.facts["trainer"]
    rate, batch = facts.get("last_rate"), facts.get("last_batch")
    if not isinstance(rate, float):
        raise RunError(f"{found.path}: last_rate is {shown(rate)}; a number is required")
    bound = {size: estimate for (size, _), estimate in trainer.estimates.items()}
    if batch is not None and (type(batch) is not int or batch not in bound):
        raise RunError(
            f"{found.path}: last_batch is {shown(batch)}; the run has {', '.join(map(str, bound))}"
        )
    last = None if batch is None else bound[batch]
    held = _held(trainer, last)
    for name in (*held, *found.entries):
        if name.startswith((GOOD, BEST)):
            continue
        theirs = found.entries[name].shape if name in found.entries else None
        ours = held[name].shape if name in held else None
        if theirs != ours:
            raise RunError(f"{found.path}: {name} has shape {theirs}; the trainer that continues has {ours}")
    values = [found.array(name) for name in held]
    # The position is only set when all arrays have been restored.
    trainer.move_to(Position(done, rate, last, batch), list(held.values()), values)


def checked_steps(trainer: Steps, found: CheckpointFile) -> int:
    """Return the number of steps that a checkpoint's trainer had taken.

    Parameters
    ----------
    trainer : Steps
        The trainer that continues.
    found : CheckpointFile
        The checkpoint.

    Raises
    ------
    RunError
        The checkpoint's trainer had another loss, estimator, optimizer or seed.
    """
    facts = found.facts.get("trainer")
    facts = facts if isinstance(facts, dict) else {}
    for name, value in {"format": FORMAT, "seed": trainer.seed, **_kind(trainer)}.items():
        theirs = facts.get(name)
        # Earlier versions described an object that is no dataclass by the name of its class alone.
        if theirs != value and not (isinstance(value, str) and theirs == value.split()[0]):
            raise RunError(
                f"{found.path}: {name} is {shown(theirs)}; the trainer that continues has {value!r}"
            )
    done = facts.get("steps_done")
    if type(done) is not int or not 0 <= done <= MAX_STEP + 1:
        raise RunError(f"{found.path}: {str(done)[:40]} steps are impossible")
    return done


def _kind(trainer: Steps) -> dict[str, str]:
    """Return the parts of a trainer that must be the same when a run continues; the learning rate may differ."""
    constants = " ".join(f"{name}={float(value)!r}" for name, value in trainer.optimizer.constants().items())
    return {
        "loss": _said(trainer.loss),
        "estimator": _said(trainer.estimator),
        "optimizer": f"{type(trainer.optimizer).__name__} {constants}".rstrip(),
    }


def _held(trainer: Steps, last: Estimate | Update | None) -> dict[str, Any]:
    """Return the arrays on which further steps depend; gradients are not, since each step writes them first."""
    arrays = {f"model.{name}": p.packed for name, p in trainer.model.packed_parameters.items()}
    arrays |= {f"own.{name}": p.packed for name, p in trainer.state.parameters.items()}
    arrays |= {f"state.{name}": array for name, array in _kept(trainer).items()}
    if last is not None and last.last is not None:
        arrays["last"] = last.last
    return arrays


def _said(part: object) -> str:
    # The repr of an object that is no dataclass may contain its address, which changes from process to process.
    if is_dataclass(part):
        return repr(part)
    return statement(part, part.key) if isinstance(part, Loss) else statement(part, fingerprint(part))


def state_of(trainer: Steps, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state from which a copy of a trainer is made that takes the same further steps.

    Parameters
    ----------
    trainer : Steps
        The trainer.
    more : mapping
        Attributes that a user's subclass has added.

    Raises
    ------
    ConfigError
        A GPU has taken steps that ``steps_done`` does not count yet.
    """
    with trainer.model.lock:
        position = trainer.position
        if trainer.ahead():
            raise ConfigError(
                f"a trainer of a model on {trainer.model.device} can be copied in on_record or after fit: "
                f"{trainer.ahead()} steps have been taken that on_step was not told of"
            )
        values = trainer.model.processor.values
        last = position.last
        names = ("model", "loss", "estimator", "optimizer", "seed", "carry_states")
        return {
            "arguments": {name: getattr(trainer, name) for name in names},
            # The model is copied later, when another thread may have trained it further.
            "parameters": trainer.model.parameters(),
            "steps": position.steps,
            "own": {name: p.array() for name, p in trainer.state.parameters.items()},
            "arrays": {name: np.array(values(array)) for name, array in _kept(trainer).items()},
            # The arrays with which the last step can be taken back.
            "last": None
            if last is None or last.last is None
            else (position.rate, position.batch, np.array(values(last.last))),
            "more": dict(more),
        }


def take_state(trainer: Steps, state: Mapping[str, Any]) -> None:
    """Give a new trainer the state that :func:`state_of` returned.

    Parameters
    ----------
    trainer : Steps
        A new trainer with the arguments in the state.
    state : mapping
        The state.
    """
    device = trainer.model.processor
    trainer.model.put_back(state["parameters"])
    assign_all(list(trainer.state.parameters.values()), list(state["own"].values()))
    for name, values in state["arrays"].items():
        trainer.state.arrays[name] = device.array(values)
    if state["last"] is None:
        trainer.stand(Position(state["steps"]))
    else:
        rate, batch, values = state["last"]
        last = update_of(trainer) if batch is None else trainer.bind(batch)
        device.assign(last.last, values)
        trainer.stand(Position(state["steps"], rate, last, batch))


def update_of(trainer: Steps) -> Update:
    """Return the update of a trainer's steps without their passes.

    Parameters
    ----------
    trainer : Steps
        The trainer, whose estimator must have such an update, as weight perturbation has.
    """
    setting = Setting(
        trainer.model, 1, trainer.loss, trainer.stream, trainer.state, trainer.optimizer, trainer.rates
    )
    return trainer.estimator.update(setting)


def _kept(trainer: Steps) -> dict[str, Any]:
    """Return the arrays that are kept from step to step; gradients are not, since each step writes them first."""
    return {n: array for n, array in trainer.state.arrays.items() if not n.startswith("gradient.")}
