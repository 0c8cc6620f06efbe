"""Training steps while other processes run: one that keeps a core busy, and frameworks that take steps in turn."""

import time
from collections.abc import Callable
from statistics import fmean, median

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench.measure import networks
from fgnumba.bench.measure.neighbours import BATCH, Neighbour, busy
from fgnumba.bench.measure.peers import installed
from fgnumba.bench.measure.ratio_goals import OVER_FASTER_PEER
from fgnumba.kernels.machine.threads import OVERRIDE, thread_count

Step = Callable[[], object]
ROUNDS, SAMPLE_SECONDS = 12, 0.25


@pytest.fixture
def step_on(monkeypatch):
    """Return a function that makes a training step of a network on a number of threads."""

    def make(network: str, threads: int) -> Step:
        monkeypatch.setenv(OVERRIDE, str(threads))
        x, y = networks.data(BATCH)
        trainer = fg.Trainer(networks.network(network), optimizer=fg.SGD(1e-7))
        trainer.step(x, y)
        return lambda: trainer.step(x, y)

    return make


@pytest.fixture
def two_processors():
    if thread_count() < 2:
        pytest.skip(f"this process uses one thread: it has one processor, or {OVERRIDE} says so")


def sample(step: Step, seconds: float = SAMPLE_SECONDS) -> list[float]:
    """Take steps for some seconds, and return the time of each."""
    times, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        step()
        times.append(time.perf_counter() - start)
    return times


def means(*steps: Step) -> list[float]:
    """Return the mean seconds of each of several steps, measured in turn."""
    samples: list[list[float]] = [[] for _ in steps]
    for _ in range(ROUNDS):
        for times, step in zip(samples, steps, strict=True):
            times += sample(step)
    return [fmean(times) for times in samples]


@pytest.mark.benchmark(group="neighbours")
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_beside_a_busy_process(benchmark, goal, step_on, two_processors, network):
    one, both = step_on(network, 1), step_on(network, 2)
    with busy():
        alone, shared = means(one, both)
        benchmark.pedantic(both, rounds=20)
    # Means are compared: a step that waits for a time slice is rare, but accounts for most of the lost time.
    goal(f"{network}: mean step on two threads over one thread's, a core busy", shared / alone, at_most=1.1)


@pytest.mark.benchmark(group="neighbours")
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_after_a_busy_process(benchmark, goal, step_on, two_processors, network):
    both = step_on(network, 2)
    quiet = median(sample(both, 1.0))
    after = []
    for _ in range(5):
        with busy():
            sample(both, 0.5)
        time_to = time.perf_counter() + 0.05
        sample(both, 0.05)
        while time.perf_counter() < time_to:
            pass
        after.append(median(sample(both, max(0.1, 5 * quiet))))
    benchmark.pedantic(both, rounds=20)
    goal(
        f"{network}: step 50 ms after a core was busy, over a quiet one", median(after) / quiet, at_most=1.15
    )


@pytest.mark.benchmark(group="neighbours")
@pytest.mark.parametrize("network", sorted(OVER_FASTER_PEER))
def test_in_turn_with_other_frameworks(benchmark, goal, step_on, threads, network):
    if not installed():
        pytest.skip("neither JAX nor PyTorch is installed; pip install -e '.[peers]'")
    ours = step_on(network, threads)
    quiet = median(sample(ours, 2.0))
    theirs = {name: Neighbour(name, network, threads) for name in installed()}
    samples: dict[str, list[float]] = {name: [] for name in ("fgnumba", *theirs)}
    try:
        for neighbour in theirs.values():
            neighbour.steps(3)
        for _ in range(ROUNDS):
            samples["fgnumba"] += sample(ours)
            for name, neighbour in theirs.items():
                count = max(1, round(SAMPLE_SECONDS / median(samples[name] or [0.05])))
                samples[name] += neighbour.steps(count)
        benchmark.pedantic(ours, rounds=20)
    finally:
        for neighbour in theirs.values():
            neighbour.close()
    seconds = {name: float(np.median(times)) for name, times in samples.items()}
    benchmark.extra_info["seconds"] = seconds
    where = f"{network}, {threads} threads"
    goal(f"{where}: step in turn with others over a quiet one", seconds["fgnumba"] / quiet, at_most=1.15)
    faster = min(theirs, key=lambda name: seconds[name])
    ratio = seconds["fgnumba"] / seconds[faster]
    goal(f"{where}: step over {faster}'s reverse-mode step", ratio, at_most=OVER_FASTER_PEER[network])
