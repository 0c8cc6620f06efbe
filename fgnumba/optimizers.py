"""Optimisers: how a step follows a gradient."""

from dataclasses import dataclass
from functools import cached_property

from fgnumba.errors import ConfigError
from fgnumba.schedules import Constant, Exponential, Schedule
from fgnumba.validation import real_number


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with heavy-ball momentum where asked for.

        θ ← θ - η_i g                          momentum 0
        m ← μ m + g,  θ ← θ - η_i m            else

    Parameters
    ----------
    learning_rate : η₀, above 0, or a schedule: a function of the step, counted from 0
        (``fgnumba.schedules``).
    decay : k of η_i = η₀ exp(-i k); only beside a number.
    momentum : μ, from 0 to below 1. Needs one more array the size of the parameters.

    Raises
    ------
    ConfigError
    """

    learning_rate: float | Schedule
    decay: float = 0.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        real_number("momentum", self.momentum, below=1)
        if callable(self.learning_rate):
            if self.decay != 0:
                raise ConfigError(f"decay is {self.decay!r} beside a schedule; give one of the two")
        else:
            Exponential(self.learning_rate, self.decay)

    @cached_property
    def schedule(self) -> Schedule:
        """The learning rate as a function of the step."""
        if callable(self.learning_rate):
            return self.learning_rate
        return Exponential(self.learning_rate, self.decay) if self.decay else Constant(self.learning_rate)

    def rate(self, step: int) -> float:
        """Return η at `step`; ConfigError where a schedule returns what is no learning rate."""
        return real_number(f"the schedule's learning rate at step {step}", self.schedule(step))
