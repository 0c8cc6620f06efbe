"""The state of a trainer between two steps: all that decides the steps to come."""

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
"""Before the names of the parameters that a run goes back to where it diverges, and that it is given at its end."""
FORMAT = 1
"""Of the arrays that a trainer's state is kept in: their names, and how the kernels pack them."""


def snapshot(trainer: Steps, batch: int | None = None) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return all that decides the steps to come: facts that JSON can hold, and arrays by name.

    `batch`: a last step of another size cannot be taken back once it is restored; None: one of any size can.

    Arrays are as the kernels pack them; on the CPU they are the trainer's own, not copies.
    """
    facts = {
        "format": FORMAT,
        "seed": trainer.seed,
        "steps_done": trainer.steps_done,
        "last_rate": trainer.last_rate,
        "last_batch": None if batch not in (None, trainer.position.batch) else trainer.position.batch,
        **_kind(trainer),
    }
    # An update that was replayed is no plan's, and is not taken back later.
    last = None if facts["last_batch"] is None else trainer.position.last
    return facts, {
        name: trainer.model.processor.values(array) for name, array in _held(trainer, last).items()
    }


def restore(trainer: Steps, found: CheckpointFile) -> None:
    """Take the state that :func:`snapshot` returned when a checkpoint was written.

    Plans must have been bound: what steps keep is there then.

    Raises
    ------
    RunError
        It is the state of another kind of trainer or model: nothing is changed.
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
    # Where it stands is known again when all of it is there.
    trainer.move_to(Position(done, rate, last, batch), list(held.values()), values)


def checked_steps(trainer: Steps, found: CheckpointFile) -> int:
    """Return the steps that a checkpoint's trainer had taken; RunError where it is not one like this."""
    facts = found.facts.get("trainer")
    facts = facts if isinstance(facts, dict) else {}
    for name, value in {"format": FORMAT, "seed": trainer.seed, **_kind(trainer)}.items():
        theirs = facts.get(name)
        # Once, what is no dataclass was said by its name alone.
        if theirs != value and not (isinstance(value, str) and theirs == value.split()[0]):
            raise RunError(
                f"{found.path}: {name} is {shown(theirs)}; the trainer that continues has {value!r}"
            )
    done = facts.get("steps_done")
    if type(done) is not int or not 0 <= done <= MAX_STEP + 1:
        raise RunError(f"{found.path}: {str(done)[:40]} steps are impossible")
    return done


def _kind(trainer: Steps) -> dict[str, str]:
    """Return what a run continues with as it began; the learning rate may be another schedule's."""
    constants = " ".join(f"{name}={float(value)!r}" for name, value in trainer.optimizer.constants().items())
    return {
        "loss": _said(trainer.loss),
        "estimator": _said(trainer.estimator),
        "optimizer": f"{type(trainer.optimizer).__name__} {constants}".rstrip(),
    }


def _held(trainer: Steps, last: Estimate | Update | None) -> dict[str, Any]:
    """Return the arrays that decide the steps to come; gradients are written before they are read."""
    arrays = {f"model.{name}": p.packed for name, p in trainer.model.packed_parameters.items()}
    arrays |= {f"own.{name}": p.packed for name, p in trainer.state.parameters.items()}
    arrays |= {f"state.{name}": array for name, array in _kept(trainer).items()}
    if last is not None and last.last is not None:
        arrays["last"] = last.last
    return arrays


def _said(part: object) -> str:
    # What is no dataclass may show its address.
    if is_dataclass(part):
        return repr(part)
    return statement(part, part.key) if isinstance(part, Loss) else statement(part, fingerprint(part))


def state_of(trainer: Steps, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a copy of a trainer is made from, and takes the same steps from.

    Parameters
    ----------
    more : attributes of a class of one's own.

    Raises
    ------
    ConfigError
        A device has taken steps by itself that are not counted yet.
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
        names = ("model", "loss", "estimator", "optimizer", "seed")
        return {
            "arguments": {name: getattr(trainer, name) for name in names},
            # The model is copied later, when another thread may have trained it further.
            "parameters": trainer.model.parameters(),
            "steps": position.steps,
            "own": {name: p.array() for name, p in trainer.state.parameters.items()},
            "arrays": {name: np.array(values(array)) for name, array in _kept(trainer).items()},
            # With which the last step can be taken back.
            "last": None
            if last is None or last.last is None
            else (position.rate, position.batch, np.array(values(last.last))),
            "more": dict(more),
        }


def take_state(trainer: Steps, state: Mapping[str, Any]) -> None:
    """Let a new trainer be what :func:`state_of` returned the state of."""
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
    """Return the update of a trainer's steps without their passes, where its estimator has one."""
    setting = Setting(
        trainer.model, 1, trainer.loss, trainer.stream, trainer.state, trainer.optimizer, trainer.rates
    )
    return trainer.estimator.update(setting)


def _kept(trainer: Steps) -> dict[str, Any]:
    """Return the arrays of the state that outlive a step; gradients are written before they are read."""
    return {n: array for n, array in trainer.state.arrays.items() if not n.startswith("gradient.")}
