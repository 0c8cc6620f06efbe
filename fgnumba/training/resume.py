"""Resumption of a run: find its newest undamaged checkpoint, and restore the trainer and the run's progress from it."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fgnumba.errors import RunError, shown
from fgnumba.storage.checkpoint_file import CheckpointFile, DamagedError
from fgnumba.training import replay, replay_log
from fgnumba.training.arithmetic import difference
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.kept_states import give_back, matched
from fgnumba.training.state import BEST, GOOD, checked_steps, restore
from fgnumba.training.steps import Steps

LIMIT = 1 << 63
_PROGRESS = {"done": int, "count": int, "total": float, "first_loss": float, "seconds": float}
_GOOD = {"step": int, "mark": int}
_SEEN = {"best": float, "best_step": int, "waited": int}
T = TypeVar("T")
Parameters = dict[str, npt.NDArray[np.float32]]


class Good(NamedTuple):
    """The state to which a run returns if it diverges.

    Parameters
    ----------
    step : int
        Number of steps that the trainer had taken.
    parameters : dict of str to ndarray
        The parameters by their names.
    mark : int
        Size of the replay log after that step, in bytes.
    """

    step: int
    parameters: Parameters
    mark: int


class Early(NamedTuple):
    """The early stopping of a run, as a checkpoint holds it.

    Parameters
    ----------
    ended : bool
        Whether a callback had ended the run.
    seen : dict or None
        The state of its early stopping, as versions before the states of all callbacks kept it; else None.
    best : tuple or None
        The step and the parameters of its best record, or None if they are not restored at the end.
    """

    ended: bool = False
    seen: dict[str, Any] | None = None
    best: tuple[int, Parameters] | None = None


class Point(NamedTuple):
    """The state of a run, as a checkpoint holds it.

    Parameters
    ----------
    progress : dict
        The fields of ``progress.Progress``.
    good : Good
        The state to which the run returns if it diverges.
    early : Early
        The early stopping.
    first_batch : int
        Number of the batch with which the run began. Default: 0.
    """

    progress: dict[str, Any]
    good: Good
    early: Early
    first_batch: int = 0


def resume(
    saved: Checkpoints, trainer: Steps, run: Mapping[str, Any], steps: int, callbacks: Sequence[Any] = ()
) -> Point | None:
    """Restore a trainer from the newest undamaged checkpoint, and open the run's logs as they were then.

    Parameters
    ----------
    saved : Checkpoints
        The checkpoints in the run's folder.
    trainer : Steps
        The trainer that continues the run.
    run : mapping
        The facts in which the checkpoint must agree with the run.
    steps : int
        Number of steps of the whole run.
    callbacks : sequence of Callback
        The run's callbacks, which get back the states that the checkpoint keeps of them. Default: none.

    Returns
    -------
    Point or None
        The state of the run, or None if there is no checkpoint, so that it begins anew.

    Raises
    ------
    RunError
        All checkpoints are damaged, one cannot be read, it is that of another run, or its products are of another
        precision than the one that ``auto`` stands for.
    """

    def take(found: CheckpointFile) -> tuple[Point, int, Mapping[str, int]]:
        differs = difference(found.path, found.facts, trainer.model.processor)
        log = None if found.entries else _log(saved, trainer, found)
        point, sizes = _apply(found, trainer, log, run, steps, callbacks)
        if differs is not None:
            saved.warn(differs)
        return point, point.progress["done"], sizes

    return newest(saved, take)


def newest(
    saved: Checkpoints, take: Callable[[CheckpointFile], tuple[T, int, Mapping[str, int]]]
) -> T | None:
    """Return what is taken from the newest undamaged checkpoint, and open the run's logs as they were then.

    Parameters
    ----------
    saved : Checkpoints
        The checkpoints in the run's folder.
    take : callable
        Takes a checkpoint's file, and returns what it holds, its step, and the sizes of the logs by their names. It
        raises DamagedError if the checkpoint cannot be used, though its file is whole.

    Returns
    -------
    object or None
        What `take` returned first, or None if there is no checkpoint, so that the run begins anew.

    Raises
    ------
    RunError
        All checkpoints are damaged, or `take` refuses the newest.
    """
    paths = saved.found()
    for number, path in enumerate(paths):
        try:
            taken, step, sizes = take(CheckpointFile(path))
        except DamagedError as error:
            saved.warn(f"{error}; {'it is the last' if path == paths[-1] else 'the one before it is used'}")
            continue
        for damaged in paths[:number]:
            with contextlib.suppress(OSError):
                damaged.rename(damaged.with_name(f"{damaged.name}.damaged"))
        saved.begin_at(step, sizes)
        return taken
    if paths:
        raise RunError(
            f"{paths[0].parent}: no checkpoint is whole; restore an undamaged one, or remove them all to begin again"
        )
    saved.begin_at(0, {})
    return None


def _log(saved: Checkpoints, trainer: Steps, found: CheckpointFile) -> replay_log.Log:
    """Return the replay log from which a compact checkpoint, which holds no arrays, is rebuilt."""
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
    callbacks: Sequence[Any],
) -> tuple[Point, dict[str, int]]:
    """Restore a trainer from a checkpoint, and return the state of the run and the sizes of its logs."""
    path, facts = found.path, found.facts
    agreed = facts.get("run")
    if not isinstance(agreed, dict):
        agreed = {}
    for name in {**run, **agreed}:
        theirs, value = agreed.get(name), run.get(name)
        # Checkpoints of earlier versions lack what the classes are called.
        if theirs != value and (name != "classes" or theirs is not None):
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
    # Checkpoints of earlier versions lack this: every run began with batch 0, whatever its trainer had done before.
    first = facts.get("first_batch", 0)
    if type(first) is not int or not 0 <= first < LIMIT:
        raise RunError(f"{path}: first_batch is {shown(first)}, which is impossible")
    ended, seen, best = _early(path, facts.get("early"), progress["done"])
    sizes = facts.get("logs")
    if not isinstance(sizes, dict) or not all(type(n) is int and 0 <= n < LIMIT for n in sizes.values()):
        raise RunError(f"{path}: the sizes of the run's logs are {shown(sizes)}, which is impossible")
    steps = checked_steps(trainer, found)
    states = matched(path, facts.get("callbacks"), callbacks)
    # Records count the run's steps, but a replay log counts the steps of its trainer.
    of_best = good["step"] if best is None else steps - progress["done"] + best
    # Before the trainer is changed, since a callback may refuse its state.
    give_back(path, states)
    if log is not None:
        parameters = _rebuilt(trainer, log, steps, {good["step"], of_best})
        kept, finest = parameters[good["step"]], parameters[of_best]
    else:
        restore(trainer, found)
        kept, finest = _kept(found, trainer, GOOD), _kept(found, trainer, BEST)
    early = Early(ended, seen, None if best is None else (best, finest))
    return Point(progress, Good(good["step"], kept, good["mark"]), early, first), sizes


def _rebuilt(trainer: Steps, log: replay_log.Log, steps: int, wanted: set[int]) -> dict[int, Parameters]:
    """Repeat the updates of a log, and return the parameters after each of the wanted steps."""
    parameters = dict.fromkeys(wanted, trainer.model.parameters())
    for done in replay.visits(trainer, log, steps, 1):
        if done in wanted:
            parameters[done] = trainer.model.parameters()
    return parameters


def _kept(found: CheckpointFile, trainer: Steps, prefix: str) -> Parameters:
    """Return the good or the best parameters; a checkpoint leaves them out if they are its own parameters."""
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
    """Return whether the run had ended, the state of its early stopping, and the step of its best record."""
    if found is None:
        # The checkpoint was written by a version without early stopping.
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
    """Check that `found` is a dict with numbers of these types by these names, and return it."""
    if not isinstance(found, dict) or found.keys() != kinds.keys():
        raise RunError(f"{path}: {what} is {shown(found)}; {', '.join(kinds)} are required")
    for name, kind in kinds.items():
        if type(found[name]) is not kind or (kind is int and not 0 <= found[name] < LIMIT):
            raise RunError(f"{path}: {name} is {shown(found[name])}, which is impossible")
    return found
