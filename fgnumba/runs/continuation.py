"""Runs that have ended and are trained further: the state of the last step becomes a checkpoint again.

A run that has ended keeps the checkpoint of its last step as ``state.safetensors``. Trained further with the same decay
of the learning rate, it takes the same steps as a run that was longer from the beginning.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgnumba.errors import RunError
from fgnumba.runs.run_folder import CHECKPOINTS, FIGURE, STATE
from fgnumba.storage import checkpoint_file
from fgnumba.storage.checkpoint_file import CheckpointFile
from fgnumba.storage.durable import make_folder, sync_folder
from fgnumba.training import replay_log
from fgnumba.training.checkpoints import MODEL, REPLAY, Checkpoints
from fgnumba.training.state import checked_steps
from fgnumba.training.steps import Steps


@dataclass(frozen=True)
class Ended:
    """The state in which a run has ended.

    Parameters
    ----------
    file : CheckpointFile
        The checkpoint of its last step.
    done : int
        Number of steps that it has taken.
    early : bool
        Whether its patience ended it before its last step.
    """

    file: CheckpointFile
    done: int
    early: bool


def ended(folder: Path, trainer: Steps, steps: int) -> Ended:
    """Return the state in which a run has ended, after checking that it can be trained further.

    Parameters
    ----------
    folder : Path
        The folder of a run that has ended.
    trainer : Trainer
        The run's trainer.
    steps : int
        Number of steps of the whole run, those that it has taken among them.

    Raises
    ------
    RunError
        The folder has no state or a damaged one, it is that of another run, or the run has that many steps already.
    """
    path = folder / STATE
    if not path.exists():
        raise RunError(
            f"{folder} has ended without {STATE}, which a run needs to be trained further; "
            f"train a new one with the settings of {folder / 'config.toml'}"
        )
    found = CheckpointFile(path)
    trained = checked_steps(trainer, found)
    progress, early = found.facts.get("progress"), found.facts.get("early")
    done = progress.get("done") if isinstance(progress, dict) else None
    if type(done) is not int or not 0 <= done <= trained:
        raise RunError(f"{path} is damaged: the number of steps that the run has taken is missing")
    if steps <= done:
        raise RunError(f"{folder} has taken {done} steps; --steps above {done} train it further")
    if not found.entries and replay_log.read(folder / REPLAY).steps < trained:
        raise RunError(f"{folder / REPLAY} ends before step {trained}, whose parameters it must lead to")
    return Ended(found, done, isinstance(early, dict) and early.get("ended") is True)


def check_length(folder: Path, steps: int) -> None:
    """Raise RunError if an interrupted run has taken more steps than its new length.

    Parameters
    ----------
    folder : Path
        The folder of an interrupted run.
    steps : int
        Number of steps of the whole run.
    """
    taken = max((int(path.stem.removeprefix("step-")) for path in Checkpoints(folder).found()), default=0)
    if steps < taken:
        raise RunError(f"{folder} has taken {taken} steps; --steps of at least {taken} is required")


def reopen(folder: Path, state: Ended) -> None:
    """Make a run that has ended one that was interrupted after its last step.

    The checkpoint is in place before the model is removed, so that a crash at any moment leaves a run that has ended or
    one that can be resumed.

    Parameters
    ----------
    folder : Path
        The run folder, whose lock is held.
    state : Ended
        What :func:`ended` returned.

    Raises
    ------
    RunError
        The folder cannot be written.
    """
    path = folder / CHECKPOINTS / f"step-{state.done:012}.safetensors"
    try:
        make_folder(path.parent)
        if state.early:
            arrays = {name: state.file.array(name) for name in state.file.entries}
            checkpoint_file.write(path, _waiting_anew(state.file.facts), arrays)
            (folder / STATE).unlink()
        else:
            os.replace(folder / STATE, path)
        sync_folder(path.parent)
        (folder / MODEL).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (folder / FIGURE).unlink(missing_ok=True)
        sync_folder(folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}") from None


def _waiting_anew(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a checkpoint whose run waits for a better record from now on."""
    early = {**facts["early"], "ended": False}
    # Earlier versions kept what early stopping had seen here; now it is among the states of callbacks.
    if isinstance(early.get("seen"), dict):
        early["seen"] = {**early["seen"], "waited": 0}
    kept = facts.get("callbacks")
    if isinstance(kept, list):
        kept = [_waiting(one) for one in kept]
    return {**facts, "early": early, **({} if kept is None else {"callbacks": kept})}


def _waiting(kept: Any) -> Any:
    """Return a callback's state as a checkpoint holds it; of early stopping, with no record waited for yet."""
    if not isinstance(kept, dict) or not isinstance(kept.get("state"), dict) or "waited" not in kept["state"]:
        return kept
    return {**kept, "state": {**kept["state"], "waited": 0}}
