"""Interleaved timing: each round measures every contender, A B C A B C, so that a busy machine slows all alike."""

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np

Contender = Callable[[], object]

# A sample is so long that for most of it a contender has its own data in the caches again.
SAMPLE_SECONDS = 20e-3

SHORT_SECONDS = 1e-3
"""The same of :func:`shortest`, whose samples must fit between two interruptions."""
SETTLE_SECONDS = 5e-3
"""Pause before each sample: threads of other frameworks spin for some milliseconds after their work, and would take a
core from the next contender."""
LEAST_ROUNDS = 5
CONFIDENCE = 0.95
_RESAMPLES = 2000


class Interval(NamedTuple):
    """A median and its confidence interval of level `CONFIDENCE`."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Timings:
    """The seconds of a call of each contender in each round. Samples of the same round were taken one after another."""

    samples: Mapping[str, list[float]]

    def seconds(self, name: str) -> float:
        """Return the median time of a contender's call in seconds.

        Parameters
        ----------
        name : str
            The contender.
        """
        return median(self.samples[name])

    def ratio(self, name: str, over: str) -> float:
        """Return the ratio of two contenders' times: the median of the rounds' ratios.

        Parameters
        ----------
        name : str
            The contender in the numerator.
        over : str
            The contender in the denominator.
        """
        return median(self._ratios(name, over))

    def interval(self, name: str, over: str) -> Interval:
        """Return :meth:`ratio` with its confidence interval, from the percentile bootstrap over the rounds.

        Parameters
        ----------
        name : str
            The contender in the numerator.
        over : str
            The contender in the denominator.
        """
        ratios = np.array(self._ratios(name, over))
        chosen = np.random.default_rng(0).integers(0, len(ratios), (_RESAMPLES, len(ratios)))
        medians = np.median(ratios[chosen], axis=1)
        tail = 50 * (1 - CONFIDENCE)
        low, high = np.percentile(medians, [tail, 100 - tail])
        return Interval(float(np.median(ratios)), float(low), float(high))

    def spread(self, name: str) -> float:
        """Return the distance between the quartiles of a contender's times, divided by their median.

        Parameters
        ----------
        name : str
            The contender.
        """
        low, high = np.percentile(self.samples[name], [25, 75])
        return float((high - low) / self.seconds(name))

    def _ratios(self, name: str, over: str) -> list[float]:
        return [a / b for a, b in zip(self.samples[name], self.samples[over], strict=True)]


def shortest(
    contenders: Mapping[str, Contender], clock: Callable[[], float], rounds: int = 40
) -> dict[str, float]:
    """Return the shortest time of each call in seconds, over rounds that take short samples of each in turn.

    For machines that are never quiet: other work only ever makes a call longer, and some sample of many is spared.

    Parameters
    ----------
    contenders : mapping
        Functions without arguments, by their names.
    clock : callable
        Returns the time in seconds; ``time.thread_time``, of calls that keep to one thread, leaves out the time in
        which others have the processor.
    rounds : int
        Number of rounds. Default: 40.
    """
    found, repeats = dict.fromkeys(contenders, math.inf), dict.fromkeys(contenders, 1)
    for _ in range(rounds):
        for name, call in contenders.items():
            # The other contenders have emptied the caches.
            call()
            start = clock()
            for _ in range(repeats[name]):
                call()
            found[name] = min(found[name], max(clock() - start, 1e-9) / repeats[name])
            repeats[name] = max(1, round(SHORT_SECONDS / found[name]))
    return found


def interleaved(
    contenders: Mapping[str, Contender],
    rounds: int = 21,
    seconds: float | None = None,
    after_round: Callable[[], None] = lambda: None,
) -> Timings:
    """Measure the time of several calls in turn.

    Each contender is called first without measuring it. Then each round takes a sample of each contender, which repeats
    a short call many times, after one more call that is not measured.

    Parameters
    ----------
    contenders : mapping
        Functions without arguments, by their names.
    rounds : int
        Largest number of rounds. Default: 21.
    seconds : float, optional
        No round begins later than this, after the first `LEAST_ROUNDS`. None (the default): all rounds are taken.
    after_round : callable
        Called without arguments after each round. Default: does nothing.
    """
    repeats = {}
    for name, call in contenders.items():
        call()
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, round(SAMPLE_SECONDS / (time.perf_counter() - start)))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    try:
        for done in range(rounds):
            if seconds is not None and done >= LEAST_ROUNDS and time.perf_counter() - began > seconds:
                break
            for name, call in contenders.items():
                n = repeats[name]
                time.sleep(SETTLE_SECONDS)
                if n > 1:
                    # The other contenders have emptied the caches, which would slow down this call, and the more the
                    # larger its data.
                    call()
                start = time.perf_counter()
                for _ in range(n):
                    call()
                samples[name].append((time.perf_counter() - start) / n)
            after_round()
    finally:
        gc.enable()
    return Timings(samples)
