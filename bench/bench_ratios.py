"""Rf and Rb: a forward gradient's pass and a reverse-mode gradient, each over the primal, on the same tiles."""

from itertools import pairwise

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.bench_dense import PEAK_MULTIPLY_ADDS, ROUNDS_OF_PEAK, peak
from fgnumba.bench.timing import interleaved
from fgnumba.kernels.directions import RANK1
from fgnumba.kernels.program import Program

NETWORKS = {"logreg": (784, 10), "mlp": (784, 1024, 1024, 10)}
BATCH = 64


def network(widths: tuple[int, ...]) -> fg.Sequential:
    """Return a perceptron with ReLU."""
    return fg.Sequential(
        [*(fg.Dense(n, activation="relu") for n in widths[1:-1]), fg.Dense(widths[-1])], widths[0]
    )


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((BATCH, 784), np.float32), rng.integers(0, 10, BATCH)


@pytest.mark.parametrize(("name", "rf", "ratio"), [("logreg", 1.5, 1.0), ("mlp", 1.75, 0.7)])
def test_ratios(benchmark, target, threads, name, rf, ratio):
    x, y = data()
    model, loss = network(NETWORKS[name]), fg.SoftmaxCrossEntropy()
    primal, dual = model.plan(BATCH, loss=loss), model.plan(BATCH, RANK1, 1, loss)
    backward = reverse.ReversePlan(model, BATCH, loss)
    forward_steps = fg.Trainer(network(NETWORKS[name]), optimizer=fg.SGD(1e-7))
    reverse_steps = reverse.ReverseTrainer(network(NETWORKS[name]), 1e-7)
    timings = interleaved(
        {
            "f": lambda: primal.run(x, y),
            "forward": lambda: dual.run(x, y),
            "reverse": lambda: backward.run(x, y),
            "forward step": lambda: forward_steps.step(x, y),
            "reverse step": lambda: reverse_steps.step(x, y),
        }
    )
    benchmark.pedantic(dual.run, args=(x, y), rounds=20, iterations=5, warmup_rounds=2)
    products = [k * n for k, n in pairwise(NETWORKS[name])]
    forward_ideal = (products[0] + 2 * sum(products[1:])) / sum(products)
    reverse_ideal = (2 * products[0] + 3 * sum(products[1:])) / sum(products)
    at = f"{name}, {threads} threads"
    target(f"Rf of {at} (products {forward_ideal:.2f})", timings.ratio("forward", "f"), at_most=rf)
    target(f"Rf/Rb of {at}", timings.ratio("forward", "reverse"), at_most=ratio)
    target(
        f"forward step over reverse step of {at}",
        timings.ratio("forward step", "reverse step"),
        at_most=ratio,
    )
    benchmark.extra_info["rb"] = {"measured": timings.ratio("reverse", "f"), "products": reverse_ideal}


def test_products_of_the_reverse_pass(benchmark, target, threads):
    """The baseline is tuned: its large products run at the peak."""
    x, y = data()
    plan = reverse.ReversePlan(network(NETWORKS["mlp"]), BATCH, fg.SoftmaxCrossEntropy())
    plan.run(x, y)
    large = [op for op in plan.operations if op.multiply_adds > 10e6]
    programs = {f"{i}": Program([op]).run for i, op in enumerate(large)}
    timings = interleaved({**programs, "peak": lambda: peak(ROUNDS_OF_PEAK)})
    benchmark.pedantic(plan.run, args=(x, y), rounds=20, iterations=2, warmup_rounds=2)
    for i, operation in enumerate(large):
        rate = operation.multiply_adds / PEAK_MULTIPLY_ADDS / threads
        target(
            f"reverse pass of mlp, {operation.name}, {threads} threads: share of peak",
            rate / timings.ratio(f"{i}", "peak"),
            at_least=0.85,
        )
