"""The convolutional network of arXiv 2202.08587 on 28x28x1 images at batch size 64.

Measured are its operations' shares of the multiply-add peak, its dual pass over its primal pass, and its step over
those of other frameworks.
"""

from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench.measure.peers import peers
from fgnumba.bench.measure.ratio_goals import OVER_FASTER_PEER
from fgnumba.bench.measure.timing import interleaved
from fgnumba.bench.suites.bench_dense import PEAK_MULTIPLY_ADDS, ROUNDS_OF_PEAK, peak
from fgnumba.kernels.machine.program import Program, Stage, cpu_operations
from fgnumba.kernels.rules import directions
from fgnumba.kernels.rules.philox import STREAM
from fgnumba.layers import Perturbation
from fgnumba.model.plan import Plan
from fgnumba.runs.presets import model_from, tables

BATCH, IMAGE, CLASSES = 64, (28, 28, 1), 10
KINDS = {
    "primal": (directions.NONE, 0),
    "rank1": (directions.RANK1, 1),
    "signs": (directions.RADEMACHER, 1),
    "gaussian": (directions.GAUSSIAN, 1),
}


def network() -> fg.Graph:
    """Return the paper's network."""
    return model_from(tables("cnn", CLASSES), CLASSES, "cnn", IMAGE, device="cpu")


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((BATCH, *IMAGE), np.float32), rng.integers(0, CLASSES, BATCH)


def plan(kind: str, loss: bool = True) -> Plan:
    """Return the plan of a pass."""
    number, count = KINDS[kind]
    perturbation = Perturbation(number, count, np.zeros(1, STREAM))
    return Plan(network(), BATCH, perturbation, fg.SoftmaxCrossEntropy() if loss else None)


def operations(whole: Plan) -> list[tuple[Any, Program, int]]:
    """Return each operation of a plan as a program of its own, with the number of multiply-adds that it needs."""
    whole.run(*data())
    found: list[tuple[Any, Program, int]] = []
    for step in whole.steps:
        if isinstance(step, Stage):
            for operation in step.operations:
                alone = Stage((operation,), step.parts, step.threads, step.local_bytes)
                found.append((operation, Program([alone]), operation.multiply_adds))
        else:
            found.append((step, Program(cpu_operations([step])), step.multiply_adds))
    return found


@pytest.mark.benchmark(group="convolutions")
@pytest.mark.parametrize("kind", KINDS)
def test_share_of_peak(benchmark, goal, threads, kind):
    """Single convolutions: from 1 to 64 channels, and from 64 to 64."""
    convolutions = [entry for entry in operations(plan(kind)) if entry[0].name == "conv2d"]
    contenders = {f"{i}": program.run for i, (_, program, _) in enumerate(convolutions)}
    timings = interleaved({**contenders, "peak": lambda: peak(ROUNDS_OF_PEAK)}, rounds=15)
    benchmark.pedantic(convolutions[1][1].run, rounds=10, iterations=1, warmup_rounds=1)
    for i, (operation, _, multiply_adds) in enumerate(convolutions):
        height, inputs = operation.arguments["height"][0], operation.arguments["inputs"][0]
        rate = multiply_adds / PEAK_MULTIPLY_ADDS / threads
        goal(
            f"{kind} {inputs // 9} to 64 channels, {height}x{height}, {threads} threads: share of peak",
            rate / timings.ratio(f"{i}", "peak"),
            at_least=0.6 if i == 0 else 0.9,
        )


@pytest.mark.benchmark(group="convolutions")
@pytest.mark.parametrize(("kind", "limit"), [("rank1", 2.15), ("signs", 3.2)])
def test_dual_pass_over_primal(benchmark, goal, threads, kind, limit):
    """Rf: the pass of a forward gradient, including the draw of its direction, over the primal pass."""
    x, y = data()
    dual, primal = plan(kind), plan("primal")
    timings = interleaved({"dual": lambda: dual.run(x, y), "primal": lambda: primal.run(x, y)}, rounds=15)
    benchmark.pedantic(dual.run, args=(x, y), rounds=10, iterations=1, warmup_rounds=1)
    ideal = sum(row.dual for row in dual.rows) / sum(row.primal for row in dual.rows)
    goal(
        f"Rf of a {kind} pass (products {ideal:.2f}), {threads} threads",
        timings.ratio("dual", "primal"),
        at_most=limit,
    )


@pytest.mark.benchmark(group="convolutions")
def test_step_against_peers(benchmark, goal, threads):
    x, y = data()
    present = {name: calls["reverse step"] for name, calls in peers("cnn", x, y).items()}
    trainer = fg.Trainer(network(), optimizer=fg.SGD(1e-7))
    ours = {"fgnumba": lambda: trainer.step(x, y)}
    if not present:
        pytest.skip("neither JAX nor PyTorch is installed: pip install -e '.[peers]'")
    timings = interleaved({**ours, **present, "peak": lambda: peak(ROUNDS_OF_PEAK)}, rounds=11)
    benchmark.pedantic(ours["fgnumba"], rounds=10, iterations=1, warmup_rounds=1)
    benchmark.extra_info["network"] = "cnn"
    benchmark.extra_info["seconds"] = {n: timings.seconds(n) for n in timings.samples}
    faster = min(present, key=timings.seconds)
    products = sum(row.dual for row in plan("rank1").rows)
    floor = products / PEAK_MULTIPLY_ADDS / threads
    print(f"step over its floor: {timings.ratio('fgnumba', 'peak') / floor:.2f}")
    for name in present:
        goal(
            f"cnn step ({timings.seconds('fgnumba') * 1e3:.1f} ms) over {name}'s "
            f"({timings.seconds(name) * 1e3:.0f} ms), {threads} threads",
            timings.ratio("fgnumba", name),
            at_most=OVER_FASTER_PEER["cnn"] if name == faster else 1.0,
        )


@pytest.mark.benchmark(group="convolutions")
def test_share_of_what_multiplies_nothing(benchmark, goal, threads):
    """Pooling and copies over a whole rank-1 step. Activations are measured as part of their convolutions."""
    x, y = data()
    trainer = fg.Trainer(network(), optimizer=fg.SGD(1e-7))
    trainer.step(x, y)
    others = [
        program for operation, program, products in operations(plan("rank1", loss=False)) if products == 0
    ]
    contenders = {f"{i}": program.run for i, program in enumerate(others)}
    timings = interleaved({**contenders, "step": lambda: trainer.step(x, y)}, rounds=11)
    benchmark.pedantic(others[1].run, rounds=10, iterations=5, warmup_rounds=1)
    goal(
        f"pooling and copies over a step, {threads} threads",
        sum(timings.ratio(name, "step") for name in contenders),
        at_most=0.12,
    )
