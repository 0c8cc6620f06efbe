"""Subnormal numbers do not slow down a step, neither when the loss goes to zero nor when the inputs hold them."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench.measure.timing import interleaved

BATCH = 64
CONVERGED = 1e-7
MOST_STEPS = 20_000
STILL = 1e-12
"""A learning rate so small that the parameters do not change."""


def trainer(learning_rate: float) -> fg.Trainer:
    layers = [fg.Dense(256, activation="relu"), fg.Dense(256, activation="relu"), fg.Dense(10)]
    return fg.Trainer(
        fg.Sequential(layers, 64, device="cpu"),
        estimator=fg.ActivityPerturbation(feedback=fg.Feedback(control=0.0)),
        optimizer=fg.Adam(learning_rate),
    )


def digits() -> tuple[np.ndarray, np.ndarray]:
    data = fg.datasets.load("digits")
    return data.x_train[:BATCH].reshape(BATCH, -1), data.y_train[:BATCH]


@pytest.mark.benchmark(group="subnormals")
def test_a_converged_model(benchmark, goal):
    """Gradients, moments and products of probabilities fall below 1e-38 while the loss goes to zero."""
    x, y = digits()
    start, converged = trainer(STILL), trainer(3e-3)
    loss, steps = 1.0, 0
    while loss > CONVERGED and steps < MOST_STEPS:
        loss = converged.step(x, y).loss
        steps += 1
    assert loss <= CONVERGED, f"the loss is {loss} after {steps} steps"
    timings = interleaved({"converged": lambda: converged.step(x, y), "start": lambda: start.step(x, y)})
    benchmark.pedantic(lambda: converged.step(x, y), rounds=20)
    benchmark.extra_info["steps to convergence"] = steps
    goal(
        f"step at a loss of {CONVERGED}, over one at the start",
        timings.ratio("converged", "start"),
        at_most=1.05,
    )


@pytest.mark.benchmark(group="subnormals")
def test_inputs_full_of_subnormals(benchmark, goal):
    x, y = digits()
    ordinary, tiny = trainer(STILL), trainer(STILL)
    small = np.full_like(x, 1e-40)
    timings = interleaved({"tiny": lambda: tiny.step(small, y), "ordinary": lambda: ordinary.step(x, y)})
    benchmark.pedantic(lambda: tiny.step(small, y), rounds=20)
    goal("step on inputs of 1e-40, over ordinary ones", timings.ratio("tiny", "ordinary"), at_most=1.05)
