"""The progress of a run between two steps, as a checkpoint keeps it."""

import math
from dataclasses import dataclass


@dataclass
class Progress:
    """The progress of a run between two steps, apart from the state of its trainer.

    Parameters
    ----------
    done : int
        Number of steps taken.
    count : int
        Number of steps since the last record.
    total : float
        Sum of the losses of these steps.
    first_loss : float or None
        Loss of the run's first step, or None before it.
    seconds : float
        Time that the run has taken before it was last resumed, in seconds.
    """

    done: int = 0
    count: int = 0
    total: float = 0.0
    first_loss: float | None = None
    seconds: float = 0.0

    def add(self, loss: float) -> None:
        """Count a step.

        Parameters
        ----------
        loss : float
            Loss of the step.
        """
        self.done += 1
        self.count += 1
        self.total += loss
        if self.first_loss is None:
            self.first_loss = loss

    def take_mean(self) -> float:
        """Return the mean loss since the last record, NaN if no step was taken, and begin a new mean."""
        mean, self.count, self.total = self.total / self.count if self.count else math.nan, 0, 0.0
        return mean
