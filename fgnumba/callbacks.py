"""What a trainer reports while it runs, and what it returns."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fgnumba.trainer import Trainer


class StepResult(NamedTuple):
    """Loss before the step, and what was seen along the directions: the derivative d, or (T,) for T > 1 of them."""

    loss: float
    directional_derivative: float | npt.NDArray[np.float64]


def result_of(values: npt.NDArray[np.float64]) -> StepResult:
    """Return the result of a step that left these values, (1 + T,)."""
    return StepResult(float(values[0]), float(values[1]) if len(values) == 2 else values[1:].copy())


@dataclass(frozen=True)
class Record:
    """Where training stood after a step.

    Parameters
    ----------
    step : steps done.
    epoch : passes over the training data done.
    loss : mean training loss over the steps since the last record.
    test_loss, test_accuracy : of the test data, after the step.
    learning_rate : of the step.
    seconds : since training began.
    """

    step: int
    epoch: float
    loss: float
    test_loss: float
    test_accuracy: float
    learning_rate: float
    seconds: float


@dataclass
class History:
    """The records of a run, in order.

    Parameters
    ----------
    records : with those of before, where a run was resumed.
    stopped : ``Trainer.stop`` ended it before its last step.
    """

    records: list[Record] = field(default_factory=list)
    stopped: bool = False

    @property
    def final(self) -> Record:
        """The last record."""
        return self.records[-1]


class Callback:
    """Base of what follows a training run; every method does nothing unless overridden."""

    def on_start(self, trainer: "Trainer", steps: int) -> None:
        """Follow the start of a training of `steps` steps."""

    def on_resume(self, trainer: "Trainer", steps: int, done: int) -> None:
        """Follow the start of a training that continues after step `done`; by default as :meth:`on_start`."""
        self.on_start(trainer, steps)

    def on_step(self, step: int, result: StepResult) -> None:
        """Follow a step; `step` counts from 1.

        On a GPU, steps are told of after they were taken: the model may be ahead, up to the next record.
        """

    def on_record(self, record: Record) -> None:
        """Follow an evaluation."""

    def on_end(self, history: History) -> None:
        """Follow the last step."""
