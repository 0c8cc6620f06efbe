"""``losses.f64``: the training loss of each step of a run, one float64 after the other, little-endian.

Records say how a run does every so often, because each of them evaluates the model. The loss of a step costs nothing
more than the step, so that all of them are kept, for the curve of the run.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.storage.files import read_whole
from fgnumba.training.callbacks import Callback
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.records import StepResult

LOSSES = "losses.f64"
MOST_STEPS = 10_000_000
"""Longer runs have no such file: it would be larger than 80 MB."""
_SIZE = 8


class LossLog(Callback):
    """Writes the loss of each step into the run folder.

    The losses are kept in memory until the next checkpoint writes them, or the end of the run. A run that is resumed
    has the file that it would have without the interruption.

    Parameters
    ----------
    checkpoints : Checkpoints
        The run's checkpoints, which own its logs and cut them back when it is resumed.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._append: Any = None
        self._pack = struct.Struct("<d").pack

    def on_start(self, trainer: Any, steps: int) -> None:
        """Begin the file."""
        self._begin(steps, 0)

    def on_resume(self, trainer: Any, steps: int, done: int) -> None:
        """Continue the file; losses that it lacks, because an earlier version wrote none, are NaN."""
        self._begin(steps, done)

    def on_step(self, step: int, result: StepResult) -> None:
        """Add the loss of the step."""
        if self._append is not None:
            self._append(self._pack(result.loss))

    def _begin(self, steps: int, done: int) -> None:
        self._append = None
        if steps > MOST_STEPS:
            return
        try:
            log = self._checkpoints.log(LOSSES)
        except OSError as error:
            # The curve is not worth a run.
            self._checkpoints.warn(
                f"{self._checkpoints.folder / LOSSES} is damaged: {error.strerror or error}; "
                f"the curve of the run is made of its records"
            )
            return
        log.cut(_SIZE * min(done, log.size // _SIZE))
        log.append(np.full(done - log.size // _SIZE, np.nan, "<f8").tobytes())
        self._append = log.append


def read_losses(folder: Path) -> npt.NDArray[np.float64] | None:
    """Return the losses of a run's steps, or None if the folder has none, or what it has is not that.

    Parameters
    ----------
    folder : Path
        The run folder.

    Returns
    -------
    ndarray or None
        (steps,) float64; NaN for a step whose loss is not known.
    """
    try:
        content = read_whole(folder / LOSSES, MOST_STEPS * _SIZE)
    except OSError:
        return None
    whole = len(content) // _SIZE * _SIZE
    return np.frombuffer(content[:whole], "<f8").astype(np.float64) if whole else None
