"""Learning rates as pure functions of the step, counted from 0."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from fgnumba.errors import ConfigError
from fgnumba.validation import real_number, store, whole_number

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Constant:
    """The same learning rate at every step.

    Parameters
    ----------
    learning_rate : above 0.

    Raises
    ------
    ConfigError
    """

    learning_rate: float

    def __post_init__(self) -> None:
        store(self, learning_rate=real_number("learning_rate", self.learning_rate, above_zero=True))

    def __call__(self, step: int) -> float:
        whole_number("step", step, 0)
        return self.learning_rate


@dataclass(frozen=True)
class Exponential:
    """Exponential decay.

        η_i = η₀ exp(−i k)

    Parameters
    ----------
    learning_rate : η₀, above 0.
    decay : k, 0 or above.

    Raises
    ------
    ConfigError

    Source: arXiv 2202.08587.
    """

    learning_rate: float
    decay: float

    def __post_init__(self) -> None:
        store(
            self,
            learning_rate=real_number("learning_rate", self.learning_rate, above_zero=True),
            decay=real_number("decay", self.decay),
        )

    def __call__(self, step: int) -> float:
        return self.learning_rate * math.exp(-whole_number("step", step, 0) * self.decay)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from one learning rate to another, which then stays.

        η_i = η₀ s + η_S (1 − s),   s = (1 + cos(π min(i, S) / S)) / 2

    Parameters
    ----------
    learning_rate : η₀, above 0.
    steps : S, at least 1.
    final : η_S, 0 or above.

    Raises
    ------
    ConfigError

    Source: arXiv 1608.03983, equation 5, without restarts.
    """

    learning_rate: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        store(
            self,
            learning_rate=real_number("learning_rate", self.learning_rate, above_zero=True),
            steps=whole_number("steps", self.steps),
            final=real_number("final", self.final),
        )

    def __call__(self, step: int) -> float:
        done = min(whole_number("step", step, 0), self.steps)
        share = (1.0 + math.cos(math.pi * done / self.steps)) / 2.0
        # As a weighted mean, not final plus a share of the difference: exact at both ends.
        return self.learning_rate * share + self.final * (1.0 - share)


@dataclass(frozen=True)
class Warmup:
    """Another schedule, its first steps scaled up linearly.

        η_i = schedule(i) min(1, (i + 1) / S)

    Parameters
    ----------
    schedule : any function of the step; it sees the same step, so that its own clock runs during the warm-up.
    steps : S, at least 1. Step S − 1 is the first at full rate.

    Raises
    ------
    ConfigError
    """

    schedule: Schedule
    steps: int

    def __post_init__(self) -> None:
        if not callable(self.schedule):
            raise ConfigError(f"schedule is {self.schedule!r}; a function of the step is required")
        store(self, steps=whole_number("steps", self.steps))

    def __call__(self, step: int) -> float:
        step = whole_number("step", step, 0)
        rate = real_number(f"the schedule's learning rate at step {step}", self.schedule(step))
        return rate * min(1.0, (step + 1) / self.steps)
