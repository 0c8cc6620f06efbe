"""Telemetry: the quality of a run's gradient estimates, measured while it trains.

It is the angle between an estimate and the exact gradient, and the estimate's error compared with theory.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fgnumba.bench import reverse
from fgnumba.colours import FORWARD, GREY
from fgnumba.datasets import Dataset
from fgnumba.errors import DivergenceError, shown
from fgnumba.runs.figures import blank, leave
from fgnumba.storage.json_lines import json_object, parsed
from fgnumba.training.callbacks import Callback
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.metrics import real_of, step_of
from fgnumba.training.records import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fgnumba.training.records import StepResult
    from fgnumba.training.trainer import Trainer

LINES, FIGURE = "gradient.jsonl", "gradient.png"


@dataclass(frozen=True)
class Reading:
    """A comparison of an estimate g with the exact gradient ∇f.

    Parameters
    ----------
    step : int
        Number of steps that the run had taken.
    cosine : float
        Cosine of the angle between g and ∇f; 0 if one of them is zero.
    relative_error : float
        ‖g - ∇f‖² / ‖∇f‖².
    gradient_norm : float
        ‖∇f‖.
    theory : float or None
        The expected relative error of an unbiased estimate, E‖g - E g‖² / ‖∇f‖², or None if it is not known.
    """

    step: int
    cosine: float
    relative_error: float
    gradient_norm: float
    theory: float | None


def compare(
    estimate: dict[str, npt.NDArray[Any]], exact: dict[str, npt.NDArray[Any]], step: int, theory: float | None
) -> Reading:
    """Return the comparison of an estimate with the exact gradient.

    Parameters
    ----------
    estimate : dict of str to ndarray
        The estimate, as arrays with the parameters' names.
    exact : dict of str to ndarray
        The exact gradient, likewise.
    step : int
        Number of steps that the run has taken.
    theory : float or None
        The expected relative error, if it is known.
    """
    g = np.concatenate([np.asarray(estimate[name], np.float64).ravel() for name in exact])
    f = np.concatenate([np.asarray(array, np.float64).ravel() for array in exact.values()])
    norms = float(np.linalg.norm(g)), float(np.linalg.norm(f))
    cosine = float(g @ f) / (norms[0] * norms[1]) if all(norms) else 0.0
    error = float(np.sum((g - f) ** 2)) / norms[1] ** 2 if norms[1] else math.inf
    return Reading(step, cosine, error, norms[1], theory)


class Telemetry(Callback):
    """A callback that regularly compares a trainer's estimate with the exact gradient on the same batch.

    The exact gradient is computed by reverse mode. Neither the parameters nor what the estimator has learned are
    changed. Dropout is on for the estimate and off for the exact gradient.

    Parameters
    ----------
    every : int
        Number of steps between comparisons. The first one is made before the first step.
    dataset : Dataset
        The data set, whose first training examples are the batch.
    batch_size : int
        Number of examples in the batch.
    checkpoints : Checkpoints
        The run's checkpoints. ``gradient.jsonl`` in their folder gets a line for each comparison, and ``gradient.png``
        is drawn at the end.
    """

    def __init__(self, every: int, dataset: Dataset, batch_size: int, checkpoints: Checkpoints) -> None:
        self.every, self._checkpoints = every, checkpoints
        self.x, self.y = dataset.x_train[:batch_size], dataset.y_train[:batch_size]
        self.readings: list[Reading] = []
        self._trainer: Trainer | None = None

    def on_start(self, trainer: "Trainer", steps: int) -> None:
        """Make the first comparison."""
        self._trainer = trainer
        self._read(0)

    def on_resume(self, trainer: "Trainer", steps: int, done: int) -> None:
        """Read the comparisons that were made before the interruption."""
        self._trainer = trainer
        log = self._checkpoints.log(LINES)
        try:
            self.readings = [_reading(line) for line in log.read().decode().splitlines()]
        except ValueError as error:
            self._checkpoints.warn(f"{log.path} is damaged ({error}): the readings before are lost")
            log.cut(0)

    def on_step(self, step: int, result: "StepResult") -> None:
        """Make a comparison if one is due."""
        if step % self.every == 0:
            self._read(step)

    def on_end(self, history: History) -> None:
        """Draw the figure if the run has ended for good."""
        if history.ended_by not in ("stop", "interrupt", "error"):
            leave(self._checkpoints.folder / FIGURE, lambda: draw(self.readings), self._checkpoints.warn)

    def _read(self, step: int) -> None:
        trainer = self._trainer
        assert trainer is not None
        _, exact = reverse.value_and_grad(trainer.model, trainer.loss, self.x, self.y)
        theory = trainer.estimator.relative_variance(trainer.model.parameter_count)
        try:
            estimate = trainer.estimate(self.x, self.y)
        except DivergenceError:
            # The next step reports the divergence, and the trainer handles it.
            return
        self.readings.append(compare(estimate, exact, step, theory))
        self._checkpoints.append(LINES, json_object(asdict(self.readings[-1])) + "\n")


def _reading(line: str) -> Reading:
    """Return the comparison in a line, with NaN for a null other than theory's; raise ValueError if it is none."""
    values = parsed(line)
    if values.keys() != {field.name for field in fields(Reading)}:
        raise ValueError(f"{shown(list(values))} are not what a reading has")
    step, theory = step_of(values.pop("step")), values.pop("theory")
    reals = {name: real_of(name, value) for name, value in values.items()}
    return Reading(step=step, theory=None if theory is None else real_of("theory", theory), **reals)


def draw(readings: list[Reading]) -> "Figure":
    """Return the figure of a run's comparisons: the cosine, and the relative error with theory, over the steps.

    Parameters
    ----------
    readings : list of Reading
        The comparisons.
    """
    figure = blank(8, 3.2)
    angle, error = figure.subplots(1, 2)
    steps = [reading.step for reading in readings]
    angle.plot(steps, [reading.cosine for reading in readings], color=FORWARD)
    angle.set(xlabel="step", ylabel="cosine with the exact gradient", ylim=(min(0.0, *angle.get_ylim()), 1))
    error.plot(steps, [reading.relative_error for reading in readings], color=FORWARD, label="measured")
    if readings and readings[0].theory:
        error.plot(steps, [reading.theory for reading in readings], color=GREY, ls="--", label="theory")
        error.legend(frameon=False)
    error.set(xlabel="step", ylabel="relative squared error", yscale="log")
    return figure
