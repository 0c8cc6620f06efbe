"""Checkpoints of a descent: what they hold, and how a descent continues from one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgnumba.errors import RunError, shown
from fgnumba.minimization.variables import Vector
from fgnumba.storage.checkpoint_file import CheckpointFile
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.kept_states import give_back, matched, states_of
from fgnumba.training.resume import newest

FORMAT = 1


class Kept(NamedTuple):
    """A point of a descent that it may return: the variables after some step, and their value.

    Parameters
    ----------
    step : int
        Number of steps taken.
    x : ndarray
        (n,) float64: the variables as a vector.
    value : float
        f(x).
    """

    step: int
    x: Vector
    value: float


class Point(NamedTuple):
    """Where a descent stands between two steps.

    Parameters
    ----------
    done : int
        Number of steps taken.
    rate : float
        Learning rate of the last step.
    seconds : float
        Time that it has taken.
    ended : bool
        Whether a callback has ended it.
    x : ndarray
        (n,) float64: the variables.
    moments : ndarray
        (k, n) float64: what the optimiser keeps.
    best : Kept or None
        The best record, where early stopping is to restore it.
    """

    done: int
    rate: float
    seconds: float
    ended: bool
    x: Vector
    moments: Vector
    best: Kept | None


def save(saved: Checkpoints, point: Point, agreed: Mapping[str, Any], callbacks: Sequence[Any]) -> None:
    """Write a checkpoint.

    Parameters
    ----------
    saved : Checkpoints
        The folder.
    point : Point
        Where the descent stands.
    agreed : mapping of str to JSON values
        What must be the same in a descent that continues.
    callbacks : sequence of Callback
        The callbacks, whose states are kept.
    """
    best = point.best
    facts = {
        "minimize": {"format": FORMAT, **agreed},
        "done": point.done,
        "rate": point.rate,
        "seconds": point.seconds,
        "ended": point.ended,
        "best": None if best is None else {"step": best.step, "value": best.value},
        "callbacks": states_of(callbacks),
    }
    arrays = {"x": point.x}
    if len(point.moments):
        arrays["moments"] = point.moments
    if best is not None:
        arrays["best"] = best.x
    saved.save(point.done, facts, arrays)


def resumed(
    saved: Checkpoints, agreed: Mapping[str, Any], steps: int, moments: int, callbacks: Sequence[Any]
) -> Point | None:
    """Return where a descent stood at its newest undamaged checkpoint, or None if there is none.

    Parameters
    ----------
    saved : Checkpoints
        The folder, whose logs are cut back to the checkpoint.
    agreed : mapping of str to JSON values
        What must be the same.
    steps : int
        Number of steps of the whole descent.
    moments : int
        Number of arrays that the optimiser keeps.
    callbacks : sequence of Callback
        The callbacks, which get their states back.

    Raises
    ------
    RunError
        All checkpoints are damaged, or the newest is that of another descent.
    """

    def take(found: CheckpointFile) -> tuple[Point, int, dict[str, int]]:
        point, sizes = _read(found, {"format": FORMAT, **agreed}, steps, moments)
        give_back(found.path, matched(found.path, found.facts.get("callbacks"), callbacks))
        return point, point.done, sizes

    return newest(saved, take)


def _read(
    found: CheckpointFile, agreed: Mapping[str, Any], steps: int, moments: int
) -> tuple[Point, dict[str, int]]:
    path, facts = found.path, found.facts
    theirs = facts.get("minimize")
    if not isinstance(theirs, dict):
        raise RunError(f"{path} is no checkpoint of fgnumba.minimize; name the folder of such a descent")
    for name, value in agreed.items():
        if theirs.get(name) != value:
            raise RunError(
                f"{path}: {name} is {shown(theirs.get(name))}; the descent that continues has {shown(value)}"
            )
    done, sizes, best = facts.get("done"), facts.get("logs"), facts.get("best")
    if type(done) is not int or not 0 <= done <= steps:
        raise RunError(f"{path} is of step {shown(done)}; the descent has {steps} steps")
    if not isinstance(sizes, dict) or not all(type(n) is int and 0 <= n < 1 << 63 for n in sizes.values()):
        raise RunError(f"{path}: the sizes of the logs are {shown(sizes)}, which is impossible")
    numbers = [facts.get(name) for name in ("rate", "seconds")]
    if not all(type(number) is float for number in numbers) or type(facts.get("ended")) is not bool:
        raise RunError(f"{path}: rate, seconds and ended are {shown([*numbers, facts.get('ended')])}")
    kept = None
    n = int(agreed["variables"])
    if best is not None:
        if not isinstance(best, dict) or [type(best.get(name)) for name in ("step", "value")] != [int, float]:
            raise RunError(f"{path}: the best record is {shown(best)}, which is impossible")
        kept = Kept(best["step"], _array(found, "best", (n,)), best["value"])
    kinds = _array(found, "moments", (moments, n)) if moments else np.zeros((0, n))
    x = _array(found, "x", (n,))
    return Point(done, numbers[0], numbers[1], facts["ended"], x, kinds, kept), sizes  # type: ignore[arg-type]


def _array(found: CheckpointFile, name: str, shape: tuple[int, ...]) -> Vector:
    entry = found.entries.get(name)
    if entry is None or entry.shape != shape or entry.dtype != np.float64:
        raise RunError(f"{found.path}: {name} is none of shape {shape}, float64")
    return found.array(name)
