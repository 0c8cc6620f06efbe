"""The state of a trainer between two steps: all that decides the steps to come."""

from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fgnumba.checkpoint_file import CheckpointFile
from fgnumba.errors import RunError, shown
from fgnumba.estimators import Estimate, Update
from fgnumba.kernels.philox import MAX_STEP

if TYPE_CHECKING:
    from fgnumba.trainer import Trainer

GOOD, BEST = "good.", "best."
"""Before the names of the parameters that a run goes back to where it diverges, and that it is given at its end."""
FORMAT = 1
"""Of the arrays that a trainer's state is kept in: their names, and how the kernels pack them."""


def snapshot(trainer: "Trainer") -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return all that decides the steps to come: facts that JSON can hold, and arrays by name.

    Arrays are as the kernels pack them; on the CPU they are the trainer's own, not copies.
    """
    facts = {
        "format": FORMAT,
        "seed": trainer.seed,
        "steps_done": trainer.steps_done,
        "last_rate": trainer.last_rate,
        "last_batch": next((size for size, plan in trainer.plans.items() if plan is trainer.last_plan), None),
        **_kind(trainer),
    }
    # An update that was replayed is no plan's, and is not taken back later.
    last = trainer.last_plan if facts["last_batch"] is not None else None
    return facts, {
        name: trainer.model.processor.values(array) for name, array in _held(trainer, last).items()
    }


def restore(trainer: "Trainer", found: CheckpointFile) -> None:
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
    if batch is not None and (type(batch) is not int or batch not in trainer.plans):
        raise RunError(
            f"{found.path}: last_batch is {shown(batch)}; the run has {', '.join(map(str, trainer.plans))}"
        )
    last = None if batch is None else trainer.plans[batch]
    held = _held(trainer, last)
    for name in (*held, *found.entries):
        if name.startswith((GOOD, BEST)):
            continue
        theirs = found.entries[name].shape if name in found.entries else None
        ours = held[name].shape if name in held else None
        if theirs != ours:
            raise RunError(f"{found.path}: {name} has shape {theirs}; the trainer that continues has {ours}")
    for name, array in held.items():
        trainer.model.processor.assign(array, found.array(name))
    trainer.steps_done, trainer.last_rate, trainer.last_plan = done, rate, last


def checked_steps(trainer: "Trainer", found: CheckpointFile) -> int:
    """Return the steps that a checkpoint's trainer had taken; RunError where it is not one like this."""
    facts = found.facts.get("trainer")
    facts = facts if isinstance(facts, dict) else {}
    for name, value in {"format": FORMAT, "seed": trainer.seed, **_kind(trainer)}.items():
        if facts.get(name) != value:
            raise RunError(
                f"{found.path}: {name} is {shown(facts.get(name))}; the trainer that continues has {value!r}"
            )
    done = facts.get("steps_done")
    if type(done) is not int or not 0 <= done <= MAX_STEP + 1:
        raise RunError(f"{found.path}: {str(done)[:40]} steps are impossible")
    return done


def _kind(trainer: "Trainer") -> dict[str, str]:
    """Return what a run continues with as it began; the learning rate may be another schedule's."""
    constants = " ".join(f"{name}={float(value)!r}" for name, value in trainer.optimizer.constants().items())
    return {
        "loss": _said(trainer.loss),
        "estimator": _said(trainer.estimator),
        "optimizer": f"{type(trainer.optimizer).__name__} {constants}".rstrip(),
    }


def _held(trainer: "Trainer", last: Estimate | Update | None) -> dict[str, Any]:
    """Return the arrays that decide the steps to come; gradients are written before they are read."""
    arrays = {f"model.{name}": p.packed for name, p in trainer.model.packed_parameters.items()}
    arrays |= {f"own.{name}": p.packed for name, p in trainer.state.parameters.items()}
    arrays |= {f"state.{n}": a for n, a in trainer.state.arrays.items() if not n.startswith("gradient.")}
    if last is not None and last.last is not None:
        arrays["last"] = last.last
    return arrays


def _said(part: object) -> str:
    # What is no dataclass may show its address.
    return repr(part) if is_dataclass(part) else type(part).__name__
