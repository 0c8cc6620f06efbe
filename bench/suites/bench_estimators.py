"""A training step of every estimator over a reverse-mode step on the same kernels, with the memory of both."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench.measure.networks import network
from fgnumba.bench.measure.timing import interleaved
from fgnumba.bench.reverse import ReverseMode
from fgnumba.estimators import RECIPES, Estimator

BATCH = 64

LIMITS = {"activity": 1.15}
"""Largest ratio of a step to reverse mode's, if both fuse plain gradient descent into their matrix products."""


def trainer(estimator: Estimator, adam: bool) -> fg.Trainer:
    optimizer: fg.SGD | fg.Adam = fg.Adam(1e-9) if adam else fg.SGD(1e-9)
    return fg.Trainer(network("mlp"), estimator=estimator, optimizer=optimizer)


@pytest.mark.quick
@pytest.mark.benchmark(group="estimators")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", sorted(name for name in RECIPES if RECIPES[name].general))
def test_step_over_reverse_mode(benchmark, goal, threads, name, optimizer):
    rng = np.random.default_rng(0)
    x, y = rng.random((BATCH, 28, 28, 1), np.float32), rng.integers(0, 10, BATCH)
    adam = optimizer == "adam"
    ours, theirs = trainer(RECIPES[name].build(name, None, None), adam), trainer(ReverseMode(), adam)
    timings = interleaved({"ours": lambda: ours.step(x, y), "reverse": lambda: theirs.step(x, y)})
    benchmark.pedantic(lambda: ours.step(x, y), rounds=10, iterations=2, warmup_rounds=1)
    nbytes = {key: contender.plan(BATCH).nbytes for key, contender in (("ours", ours), ("reverse", theirs))}
    benchmark.extra_info["milliseconds"] = {key: 1e3 * timings.seconds(key) for key in timings.samples}
    benchmark.extra_info["bytes_beside_parameters"] = nbytes
    memory = f"{nbytes['ours'] / 1e6:.1f} MB to {nbytes['reverse'] / 1e6:.1f}"
    limit = LIMITS.get(name) if optimizer == "sgd" else None
    title = f"{name} step over reverse mode's, {optimizer}, {threads} threads ({memory})"
    goal(title, timings.ratio("ours", "reverse"), at_most=limit)
