"""What a trainer reports while it runs, and what it returns."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fgnumba.trainer import StepResult, Trainer


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
    """The records of a run, in order."""

    records: list[Record] = field(default_factory=list)

    @property
    def final(self) -> Record:
        """The last record."""
        return self.records[-1]


class Callback:
    """Base of what follows a training run; every method does nothing unless overridden."""

    def on_start(self, trainer: "Trainer", steps: int) -> None:
        """Follow the start of a training of `steps` steps."""

    def on_step(self, step: int, result: "StepResult") -> None:
        """Follow a step; `step` counts from 1.

        On a GPU, steps are told of after they were taken: the model may be ahead, up to the next record.
        """

    def on_record(self, record: Record) -> None:
        """Follow an evaluation."""

    def on_end(self, history: History) -> None:
        """Follow the last step."""
