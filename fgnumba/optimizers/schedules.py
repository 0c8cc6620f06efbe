"""Schedules: learning rates η_i as pure functions of the step i, counted from 0.

Any function of the step can be a schedule; these are the usual ones.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from fgnumba.errors import ConfigError
from fgnumba.validation import real_number, store, whole_number

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Constant:
    """The same learning rate at every step: η_i = η₀.

    Parameters
    ----------
    learning_rate : float
        The learning rate η₀, above 0.

    Raises
    ------
    ConfigError
        If it is out of its range.
    """

    learning_rate: float

    def __post_init__(self) -> None:
        store(self, learning_rate=real_number("learning_rate", self.learning_rate, above_zero=True))

    def __call__(self, step: int) -> float:
        whole_number("step", step, 0)
        return self.learning_rate


@dataclass(frozen=True)
class Exponential:
    """Exponential decay of the learning rate.

        η_i = η₀ exp(−i k)

    Source: arXiv 2202.08587.

    Parameters
    ----------
    learning_rate : float
        The learning rate η₀ of the first step, above 0.
    decay : float
        The decay k for each step, 0 or above.

    Raises
    ------
    ConfigError
        If an argument is out of its range.
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
    """A fall along half a cosine from one learning rate to another, which then stays.

        η_i = η₀ s + η_S (1 − s),   s = (1 + cos(π min(i, S) / S)) / 2

    Source: arXiv 1608.03983, equation 5, without restarts.

    Parameters
    ----------
    learning_rate : float
        The learning rate η₀ of the first step, above 0.
    steps : int
        The number of steps S after which the final learning rate is reached, at least 1.
    final : float, optional
        The final learning rate η_S, 0 or above. By default 0.

    Raises
    ------
    ConfigError
        If an argument is out of its range.

    Examples
    --------
    >>> import fgnumba as fg
    >>> schedule = fg.schedules.Cosine(0.1, steps=100)
    >>> schedule(0), schedule(100)
    (0.1, 0.0)
    >>> optimizer = fg.SGD(schedule)
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
        # A weighted mean is exact at both ends, which `final` plus a share of the difference would not be.
        return self.learning_rate * share + self.final * (1.0 - share)


@dataclass(frozen=True)
class Warmup:
    """A warm-up: another schedule whose first learning rates are scaled up linearly.

        η_i = schedule(i) min(1, (i + 1) / S)

    Parameters
    ----------
    schedule : callable
        Any function of the step. It is given the same step, so its own decay proceeds during the warm-up.
    steps : int
        The number of steps S, at least 1. Step S − 1 is the first with the full learning rate.

    Raises
    ------
    ConfigError
        If an argument is of the wrong kind or out of its range, or the schedule returns no learning rate.
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
