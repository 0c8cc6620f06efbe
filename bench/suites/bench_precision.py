"""Products, steps and tangents by precision, as ``python -m fgnumba.bench.precision`` measures them."""

import pytest

from fgnumba.bench.measure import networks
from fgnumba.bench.measure.dense_products import bound
from fgnumba.bench.measure.ratios import Case, trainer
from fgnumba.bench.precision import measure
from fgnumba.bench.precision.settings import MIXED, ROWS, STEP_CASES, WIDTH, Setting, possible
from fgnumba.kernels.devices.tuning import tuned
from fgnumba.kernels.emit.vector import instruction_set
from fgnumba.kernels.machine.program import Program

SECONDS = 8.0

of_step_cases = pytest.mark.parametrize(
    ("network", "batch"),
    [pytest.param(*STEP_CASES[0], marks=pytest.mark.quick), *STEP_CASES[1:]],
    ids=[f"{network}-{batch}" for network, batch in STEP_CASES],
)


def report(goal, figures):
    for figure in figures:
        if figure.measured is not None:
            goal(figure.name, figure.measured, figure.at_least, figure.at_most, figure.unit)


@pytest.mark.quick
@pytest.mark.benchmark(group="precision")
def test_peaks_and_bits(benchmark, goal):
    figures = measure.bits()
    report(goal, measure.peaks(SECONDS) + figures)
    isa = tuned(instruction_set())
    benchmark.pedantic(
        Program([bound("primal", 64, WIDTH, WIDTH, 1, isa)], 1).run, rounds=20, warmup_rounds=2
    )
    assert all(figure.met for figure in figures)


@pytest.mark.benchmark(group="precision")
@pytest.mark.parametrize("rows", [pytest.param(64, marks=pytest.mark.quick), *ROWS[1:]])
def test_products(benchmark, goal, threads, rows):
    isa = tuned(instruction_set())
    program = Program([bound("primal", rows, WIDTH, WIDTH, threads, isa)], threads)
    benchmark.pedantic(program.run, rounds=20, warmup_rounds=2)
    report(goal, measure.products(rows, threads, SECONDS))


@of_step_cases
@pytest.mark.benchmark(group="precision")
def test_steps(benchmark, goal, network, batch):
    x, y = networks.data(batch)
    setting = MIXED if possible(MIXED) else Setting("auto")
    ours = trainer(Case(network, batch=batch, device=setting.device))
    benchmark.pedantic(ours.step, args=(x, y), rounds=10, warmup_rounds=2)
    report(goal, measure.steps(network, batch, SECONDS))


@of_step_cases
@pytest.mark.benchmark(group="precision")
def test_rf_of_bf16_tangents(benchmark, goal, network, batch):
    if not possible(MIXED):
        pytest.skip("this processor multiplies no bfloat16")
    x, _ = networks.data(batch)
    plan = networks.network(network, MIXED.device).plan(batch)
    benchmark.pedantic(plan.run, args=(x,), rounds=10, warmup_rounds=2)
    report(goal, measure.tangents(network, batch, SECONDS))
