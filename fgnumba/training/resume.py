"""Where a run is resumed from: the newest of its checkpoints that is whole, and what that one says."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.errors import RunError, shown
from fgnumba.storage.checkpoint_file import CheckpointFile, DamagedError
from fgnumba.training import replay, replay_log
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.state import BEST, GOOD, checked_steps, restore
from fgnumba.training.steps import Steps

LIMIT = 1 << 63
_PROGRESS = {"done": int, "count": int, "total": float, "first_loss": float, "seconds": float}
_GOOD = {"step": int, "mark": int}
_SEEN = {"best": float, "best_step": int, "waited": int}
Parameters = dict[str, npt.NDArray[np.float32]]


class Good(NamedTuple):
    """What a run goes back to where it diverges: steps of its trainer, parameters, the end of its log of scalars."""

    step: int
    parameters: Parameters
    mark: int


class Early(NamedTuple):
    """What a run knew of its end.

    Parameters
    ----------
    ended : a callback had ended it.
    seen : the state of its early stopping, None without.
    best : step and parameters of its best record, None where they are not restored.
    """

    ended: bool = False
    seen: dict[str, Any] | None = None
    best: tuple[int, Parameters] | None = None


class Point(NamedTuple):
    """Where a run stood: the fields of ``training.Progress``, what it goes back to, what it knew of its end.

    `first_batch` is the number of the batch that it began with.
    """

    progress: dict[str, Any]
    good: Good
    early: Early
    first_batch: int = 0


def resume(saved: Checkpoints, trainer: Steps, run: Mapping[str, Any], steps: int) -> Point | None:
    """Put `trainer` where the newest whole checkpoint left it, and open the logs of there; None without any.

    Parameters
    ----------
    run : facts that the checkpoint must agree in. steps : of the run.

    Raises
    ------
    RunError
        No checkpoint is whole, one cannot be read, or it is that of another run.
    """
    paths = saved.found()
    for number, path in enumerate(paths):
        try:
            found = CheckpointFile(path)
            log = None if found.entries else _log(saved, trainer, found)
        except DamagedError as error:
            saved.warn(f"{error}; {'it is the last' if path == paths[-1] else 'the one before it is used'}")
            continue
        point, sizes = _apply(found, trainer, log, run, steps)
        for damaged in paths[:number]:
            with contextlib.suppress(OSError):
                damaged.rename(damaged.with_name(f"{damaged.name}.damaged"))
        saved.begin_at(point.progress["done"], sizes)
        return point
    if paths:
        raise RunError(
            f"{paths[0].parent}: no checkpoint is whole; a whole one, or none to begin again, is required"
        )
    saved.begin_at(0, {})
    return None


def _log(saved: Checkpoints, trainer: Steps, found: CheckpointFile) -> replay_log.Log:
    """Return the log that a compact checkpoint is rebuilt from."""
    steps = checked_steps(trainer, found)
    try:
        log = replay_log.read(saved.replay_path)
    except RunError as error:
        raise DamagedError(f"{found.path} cannot be rebuilt: {error}") from None
    if log.steps < steps:
        ends = log.cut or f"{log.path} ends at step {log.steps}"
        raise DamagedError(f"{found.path} cannot be rebuilt: {ends}")
    return log


def _apply(
    found: CheckpointFile,
    trainer: Steps,
    log: replay_log.Log | None,
    run: Mapping[str, Any],
    most: int,
) -> tuple[Point, dict[str, int]]:
    """Return what a checkpoint says, having put `trainer` there."""
    path, facts = found.path, found.facts
    agreed = facts.get("run")
    for name, value in run.items():
        theirs = agreed.get(name) if isinstance(agreed, dict) else None
        if theirs != value:
            because = "; the data have changed since the run began" if name == "data" else ""
            raise RunError(
                f"{path}: {name} is {shown(theirs)}; the run that continues has {shown(value)}{because}"
            )
    progress = _numbers(path, "where the run stood", facts.get("progress"), _PROGRESS)
    if progress["done"] > most:
        raise RunError(
            f"{path.parent.parent}: its checkpoint is of step {progress['done']}; the run has {most} steps"
        )
    good = _numbers(path, "what the run goes back to", facts.get("good"), _GOOD)
    # Once, every run began with batch 0, whatever its trainer had done before.
    first = facts.get("first_batch", 0)
    if type(first) is not int or not 0 <= first < LIMIT:
        raise RunError(f"{path}: first_batch is {shown(first)}, which is impossible")
    ended, seen, best = _early(path, facts.get("early"), progress["done"])
    sizes = facts.get("logs")
    if not isinstance(sizes, dict) or not all(type(n) is int and 0 <= n < LIMIT for n in sizes.values()):
        raise RunError(f"{path}: the sizes of the run's logs are {shown(sizes)}, which is impossible")
    steps = checked_steps(trainer, found)
    # Records count the run's steps, a log those of its trainer.
    of_best = good["step"] if best is None else steps - progress["done"] + best
    if log is not None:
        parameters = _rebuilt(trainer, log, steps, {good["step"], of_best})
        kept, finest = parameters[good["step"]], parameters[of_best]
    else:
        restore(trainer, found)
        kept, finest = _kept(found, trainer, GOOD), _kept(found, trainer, BEST)
    early = Early(ended, seen, None if best is None else (best, finest))
    return Point(progress, Good(good["step"], kept, good["mark"]), early, first), sizes


def _rebuilt(trainer: Steps, log: replay_log.Log, steps: int, wanted: set[int]) -> dict[int, Parameters]:
    """Take the steps of a log, and return the parameters after those numbers of them that are wanted."""
    parameters = dict.fromkeys(wanted, trainer.model.parameters())
    for done in replay.visits(trainer, log, steps, 1):
        if done in wanted:
            parameters[done] = trainer.model.parameters()
    return parameters


def _kept(found: CheckpointFile, trainer: Steps, prefix: str) -> Parameters:
    """Return the parameters of a kind; those of the checkpoint itself are not there twice."""
    if not any(name.startswith(prefix) for name in found.entries):
        return trainer.model.parameters()
    parameters = {}
    for name, parameter in trainer.model.packed_parameters.items():
        entry = found.entries.get(prefix + name)
        if entry is None or entry.shape != parameter.shape or entry.dtype != np.float32:
            raise RunError(f"{found.path}: {prefix + name} is none of shape {parameter.shape}, float32")
        parameters[name] = found.array(prefix + name)
    return parameters


def _early(path: Path, found: Any, done: int) -> tuple[bool, dict[str, Any] | None, int | None]:
    """Return whether the run had ended, what its early stopping had seen, and the step of its best record."""
    if found is None:
        # Written before there was early stopping.
        return False, None, None
    if not isinstance(found, dict) or found.keys() != {"ended", "seen", "best"}:
        raise RunError(
            f"{path}: what the run knew of its end is {shown(found)}; ended, seen, best are required"
        )
    ended, seen, best = found["ended"], found["seen"], found["best"]
    if not isinstance(ended, bool):
        raise RunError(f"{path}: ended is {shown(ended)}, which is impossible")
    if seen is not None:
        unseen = isinstance(seen, dict) and seen.get("best", 0.0) is None
        numbers = _numbers(path, "early stopping", {**seen, "best": 0.0} if unseen else seen, _SEEN)
        seen = {**numbers, "best": None} if unseen else numbers
    if best is not None and (type(best) is not int or not 0 < best <= done):
        raise RunError(f"{path}: the best step is {shown(best)} of {done}, which is impossible")
    return ended, seen, best


def _numbers(path: Path, what: str, found: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Return `found`, having checked that it has numbers of such kinds by such names."""
    if not isinstance(found, dict) or found.keys() != kinds.keys():
        raise RunError(f"{path}: {what} is {shown(found)}; {', '.join(kinds)} are required")
    for name, kind in kinds.items():
        if type(found[name]) is not kind or (kind is int and not 0 <= found[name] < LIMIT):
            raise RunError(f"{path}: {name} is {shown(found[name])}, which is impossible")
    return found
