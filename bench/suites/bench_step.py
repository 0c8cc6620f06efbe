"""A whole training step (directions, dual pass, loss, update), over those of other frameworks and other directions."""

from itertools import pairwise

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench.measure.peers import peers
from fgnumba.bench.measure.timing import Contender, interleaved

PERCEPTRON, LOGISTIC = (784, 1024, 1024, 10), (784, 10)
BATCH = 64


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((BATCH, 784), np.float32), rng.integers(0, 10, BATCH)


def forward_step(widths: tuple[int, ...], direction: str = "rank1", directions: int = 1) -> Contender:
    """Return a function that takes one training step."""
    layers = [fg.Dense(n, activation="relu") for n in widths[1:-1]] + [fg.Dense(widths[-1])]
    trainer = fg.Trainer(
        fg.Sequential(layers, widths[0], device="cpu"),
        estimator=fg.WeightPerturbation(direction, directions),
        optimizer=fg.SGD(1e-7),
    )
    x, y = data()
    return lambda: trainer.step(x, y)


@pytest.mark.benchmark(group="steps")
@pytest.mark.parametrize(
    ("name", "widths", "limits"),
    [
        ("perceptron", PERCEPTRON, {"JAX": 0.5, "PyTorch": 0.25}),
        ("logistic", LOGISTIC, {"JAX": 0.5, "PyTorch": 0.5}),
    ],
    ids=["perceptron", "logistic"],
)
def test_step_against_peers(benchmark, goal, name, widths, limits):
    x, y = data()
    theirs = {peer: calls["reverse step"] for peer, calls in peers(widths, x, y).items()}
    if not theirs:
        pytest.skip("neither JAX nor PyTorch is installed: pip install -e '.[peers]'")
    ours = forward_step(widths)
    timings = interleaved({"fgnumba": ours, **theirs})
    benchmark.pedantic(ours, rounds=20, iterations=5, warmup_rounds=2)
    benchmark.extra_info["network"] = name
    benchmark.extra_info["seconds"] = {n: timings.seconds(n) for n in timings.samples}
    for peer in theirs:
        goal(
            f"{name} step over {peer}'s ({timings.seconds(peer) * 1e6:.0f} us)",
            timings.ratio("fgnumba", peer),
            at_most=limits[peer],
        )


def multiply_adds_an_example(directions: int) -> int:
    """Return the multiply-adds of a rank-1 dual pass: 1 + T products in a hidden layer, 1 in the first layer."""
    first, *hidden = (k * n for k, n in pairwise(PERCEPTRON))
    return first + (1 + directions) * sum(hidden)


@pytest.mark.quick
@pytest.mark.benchmark(group="steps")
def test_step_over_its_floor(benchmark, goal, threads):
    """The time of a rank-1 step over that of its multiply-adds at the peak rate of the same threads."""
    from fgnumba.bench.suites.bench_dense import PEAK_MULTIPLY_ADDS, ROUNDS_OF_PEAK, peak

    ours = forward_step(PERCEPTRON)
    products = BATCH * multiply_adds_an_example(1)
    timings = interleaved({"step": ours, "peak": lambda: peak(ROUNDS_OF_PEAK)})
    floor = products / PEAK_MULTIPLY_ADDS / threads
    benchmark.pedantic(ours, rounds=20, iterations=5, warmup_rounds=2)
    goal(
        f"perceptron step over its floor, {threads} threads",
        timings.ratio("step", "peak") / floor,
        at_most=1.35,
    )


@pytest.mark.benchmark(group="steps")
@pytest.mark.parametrize(("direction", "limit"), [("rademacher", 1.75), ("gaussian", 2.2)])
def test_dense_directions_over_rank1(benchmark, goal, threads, direction, limit):
    dense, rank1 = forward_step(PERCEPTRON, direction), forward_step(PERCEPTRON)
    timings = interleaved({"dense": dense, "rank1": rank1})
    benchmark.pedantic(dense, rounds=20, iterations=2, warmup_rounds=2)
    goal(
        f"{direction} step over a rank-1 step, {threads} threads",
        timings.ratio("dense", "rank1"),
        at_most=limit,
    )


@pytest.mark.benchmark(group="steps")
def test_sixteen_directions_share_a_primal(benchmark, goal, threads):
    many, one = forward_step(PERCEPTRON, directions=16), forward_step(PERCEPTRON)
    timings = interleaved({"many": many, "one": one}, rounds=15)
    benchmark.pedantic(many, rounds=10, iterations=1, warmup_rounds=1)
    ideal = multiply_adds_an_example(16) / multiply_adds_an_example(1)
    goal(
        f"16 directions over one (ideal {ideal:.2f}), {threads} threads",
        timings.ratio("many", "one"),
        at_most=1.15 * ideal,
    )
