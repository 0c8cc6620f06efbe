"""Interleaved timing: every contender in every round, A B C A B C, so that a busy machine slows all alike."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Contender = Callable[[], object]

# A sample is long enough that a contender has its own data back in the caches for most of it.
SAMPLE_SECONDS = 20e-3


@dataclass(frozen=True)
class Timings:
    """Seconds a call, a sample a round and contender; round r of all contenders was measured together."""

    samples: Mapping[str, list[float]]

    def seconds(self, name: str) -> float:
        """Return the median time of a call."""
        return median(self.samples[name])

    def ratio(self, name: str, over: str) -> float:
        """Return the median over rounds of one contender's time over another's."""
        return median(a / b for a, b in zip(self.samples[name], self.samples[over], strict=True))


def interleaved(contenders: Mapping[str, Contender], rounds: int = 21) -> Timings:
    """Time `contenders`: each warmed up, then one sample each a round. A sample repeats short calls."""
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
    try:
        for _ in range(rounds):
            for name, call in contenders.items():
                n = repeats[name]
                start = time.perf_counter()
                for _ in range(n):
                    call()
                samples[name].append((time.perf_counter() - start) / n)
    finally:
        gc.enable()
    return Timings(samples)
