"""Rf and Rb: the times of a forward and of a reverse-mode gradient over the primal pass's, on the same kernels."""

import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.measure import machine, networks
from fgnumba.bench.measure.ratio_goals import of_ratios
from fgnumba.bench.measure.ratios import Case, measure
from fgnumba.bench.measure.timing import interleaved
from fgnumba.kernels.machine.program import Program

quick = pytest.mark.quick


@pytest.fixture(scope="module")
def bandwidth():
    return machine.bandwidth()


@pytest.mark.benchmark(group="ratios")
@pytest.mark.parametrize(
    ("name", "direction"),
    [
        pytest.param("logreg", "rank1", marks=quick),
        pytest.param("mlp", "rank1", marks=quick),
        ("cnn", "rank1"),
        ("logreg", "rademacher"),
        ("mlp", "rademacher"),
        ("cnn", "rademacher"),
    ],
)
def test_ratios(benchmark, goal, threads, bandwidth, name, direction):
    row = measure(Case(name, direction), bandwidth)
    model = networks.network(name)
    x, y = networks.data(64)
    trainer = fg.Trainer(model, estimator=fg.WeightPerturbation(direction), optimizer=fg.SGD(1e-12))
    benchmark.pedantic(trainer.step, args=(x, y), rounds=20, iterations=2, warmup_rounds=2)
    benchmark.extra_info["row"] = row
    for figure in of_ratios(row, f", {threads} threads"):
        goal(figure.name, figure.measured, at_most=figure.at_most)


@pytest.mark.benchmark(group="reverse")
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_products_of_the_reverse_pass(benchmark, goal, threads, name):
    """The reverse-mode baseline is well tuned: each of its large matrix products runs near the peak.

    Each is measured alone, with warm caches. The products of a convolution are counted as those of a direct one, some
    of which Winograd's filtering saves.
    """
    x, y = networks.data(64)
    plan = reverse.ReversePlan(networks.network(name), 64, fg.SoftmaxCrossEntropy())
    plan.run(x, y)
    whole = [op for op in plan.operations if not op.local]
    large = [op for op in whole if op.multiply_adds > 2e6 and op.name.endswith("gradient")]
    programs = {f"{i}": Program([op]).run for i, op in enumerate(large)}
    peak = machine.Peak(threads)
    timings = interleaved({**programs, "peak": peak})
    benchmark.pedantic(plan.run, args=(x, y), rounds=10, iterations=1, warmup_rounds=1)
    shares: dict[str, list[float]] = {}
    for i, operation in enumerate(large):
        share = operation.multiply_adds / peak.multiply_adds / timings.ratio(f"{i}", "peak")
        names = operation.arguments.dtype.names or ()
        # Only the first layer's convolution is a direct one here; the product of its gradient has nine rows.
        kind = "filtered" if operation.executed < 1 else "first layer" if "run_rows" in names else "dense"
        shares.setdefault(f"{kind} {operation.name}", []).append(share)
    for kind, measured in shares.items():
        goal(
            f"reverse pass of {name}, {kind}, {threads} threads: least share of peak",
            min(measured),
            at_least=0.1 if kind.startswith("first") else 0.85,
        )
