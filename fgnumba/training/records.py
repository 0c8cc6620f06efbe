"""What a run returns: the result of a step, records, and their history."""

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


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

    A figure that was not taken is NaN: those of the validation part where there is none, those of the test data in
    every record but that of a run's end. A line of ``metrics.jsonl`` does not have it.

    Parameters
    ----------
    step : steps done.
    epoch : passes over the training data done.
    loss : mean training loss over the steps since the last record.
    test_loss, test_accuracy : of the test data, in the last record of a run that has ended, of the parameters that it
        leaves (see :attr:`History.restored_step`). Where such a run is given more steps, that record keeps them.
    learning_rate : of the step.
    seconds : since training began.
    validation_loss, validation_accuracy : of the validation part, after the step.
    """

    step: int
    epoch: float
    loss: float
    test_loss: float = math.nan
    test_accuracy: float = math.nan
    learning_rate: float = math.nan
    seconds: float = math.nan
    validation_loss: float = math.nan
    validation_accuracy: float = math.nan


@dataclass
class History:
    """The records of a run, in order.

    Parameters
    ----------
    records : with those of before, where a run was resumed.
    stopped : ``Trainer.stop`` interrupted it before its last step: it may be resumed, and has no test figures.
    ended_early : a callback ended it before its last step.
    ended_by : what ended it, None while it runs: ``"steps"``, its last one; ``"callback"``, see :meth:`Callback.ends`;
        ``"stop"``, see ``Trainer.stop``; ``"divergence"``; ``"interrupt"``, as by Ctrl-C; ``"error"``, any other.
    restored_step : the step whose parameters the model was given back at the end, by :class:`EarlyStopping` with
        ``restore_best``; None where it keeps those of the last step.
    """

    records: list[Record] = field(default_factory=list)
    stopped: bool = False
    ended_early: bool = False
    restored_step: int | None = None
    ended_by: str | None = None

    def __copy__(self) -> "History":
        return replace(self, records=list(self.records))

    @property
    def final(self) -> Record:
        """The last record."""
        return self.records[-1]
