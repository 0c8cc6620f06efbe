"""Interleaved timing: every contender in every round, A B C A B C, so that a busy machine slows all alike."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np

Contender = Callable[[], object]

# A sample is long enough that a contender has its own data back in the caches for most of it.
SAMPLE_SECONDS = 20e-3

SETTLE_SECONDS = 5e-3
"""Before each sample: threads of other frameworks spin for some milliseconds after their work, and would take a core
from whoever is next."""
LEAST_ROUNDS = 5
CONFIDENCE = 0.95
_RESAMPLES = 2000


class Interval(NamedTuple):
    """A median, and the bounds that hold it with a confidence of `CONFIDENCE`."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Timings:
    """Seconds a call, a sample a round and contender; round r of all contenders was measured together."""

    samples: Mapping[str, list[float]]

    def seconds(self, name: str) -> float:
        """Return the median time of a call."""
        return median(self.samples[name])

    def ratio(self, name: str, over: str) -> float:
        """Return the median over rounds of one contender's time over another's."""
        return median(self._ratios(name, over))

    def interval(self, name: str, over: str) -> Interval:
        """Return :meth:`ratio` with its confidence interval, by the percentile bootstrap over rounds."""
        ratios = np.array(self._ratios(name, over))
        chosen = np.random.default_rng(0).integers(0, len(ratios), (_RESAMPLES, len(ratios)))
        medians = np.median(ratios[chosen], axis=1)
        tail = 50 * (1 - CONFIDENCE)
        low, high = np.percentile(medians, [tail, 100 - tail])
        return Interval(float(np.median(ratios)), float(low), float(high))

    def spread(self, name: str) -> float:
        """Return the distance between the quartiles of a contender's time over its median."""
        low, high = np.percentile(self.samples[name], [25, 75])
        return float((high - low) / self.seconds(name))

    def _ratios(self, name: str, over: str) -> list[float]:
        return [a / b for a, b in zip(self.samples[name], self.samples[over], strict=True)]


def interleaved(
    contenders: Mapping[str, Contender],
    rounds: int = 21,
    seconds: float | None = None,
    after_round: Callable[[], None] = lambda: None,
) -> Timings:
    """Time `contenders`: each warmed up, then one sample each a round. A sample repeats short calls after one more.

    Parameters
    ----------
    seconds : no round begins later, after the first `LEAST_ROUNDS`.
    after_round : called after each.
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
                    # The others have emptied the caches; a call of those with more data would suffer more.
                    call()
                start = time.perf_counter()
                for _ in range(n):
                    call()
                samples[name].append((time.perf_counter() - start) / n)
            after_round()
    finally:
        gc.enable()
    return Timings(samples)
