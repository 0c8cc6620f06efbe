"""The dense kernel's share of the multiply-add peak with every register tile that this processor can execute.

The weights of one layer stay in the last-level cache from call to call; those of many layers, used in turn, come from
memory.
"""

import numpy as np
import pytest
from numba import njit

from fgnumba.bench.measure.dense_products import bound, useful_multiply_adds
from fgnumba.bench.measure.timing import interleaved
from fgnumba.bench.suites.bench_dense import ISA
from fgnumba.kernels.devices import tuning
from fgnumba.kernels.emit import multiply_add_peak, vector
from fgnumba.kernels.emit.vector import INSTRUCTION_SETS, InstructionSet
from fgnumba.kernels.machine.program import Program

SHAPE = (64, 1024, 1024)
LAYERS = 24
"""Number of layers whose weights are read in turn; together they take 96 MB."""

ROUNDS_OF_PEAK = 20_000


def peak_of(isa: InstructionSet):
    """Return a function of many multiply-adds that touch no memory, and their number."""
    emitted = multiply_add_peak(isa)

    @njit
    def peak(rounds):
        return emitted(rounds)

    return lambda: peak(ROUNDS_OF_PEAK), ROUNDS_OF_PEAK * isa.accumulators * isa.lanes


@pytest.mark.benchmark(group="tiles")
@pytest.mark.parametrize("layers", [1, LAYERS], ids=["cached", "from memory"])
@pytest.mark.parametrize("variant", ["primal", "rank1", "signs", "explicit"])
@pytest.mark.parametrize("name", vector.executable())
def test_share_of_peak(benchmark, goal, name, variant, layers):
    """Only the tile that training uses has a goal, and only with weights that stay in a cache."""
    peak, peak_multiply_adds = peak_of(INSTRUCTION_SETS[name])
    programs = {
        tile: Program([bound(variant, *SHAPE, threads=1, isa=isa) for _ in range(layers)], 1)
        for tile, isa in tuning.tiles(INSTRUCTION_SETS[name]).items()
    }
    contenders = {tile: program.run for tile, program in programs.items()}
    timings = interleaved({**contenders, "peak": peak}, rounds=15)
    benchmark.pedantic(next(iter(programs.values())).run, rounds=5, iterations=1, warmup_rounds=1)
    rate = layers * useful_multiply_adds(variant, *SHAPE) / peak_multiply_adds
    where = "cached" if layers == 1 else "from memory"
    for tile in programs:
        used = tile == ISA.tile and name == ISA.name and layers == 1
        goal(
            f"{name} {tile}, {variant} {'x'.join(map(str, SHAPE))}, W {where}: share of peak",
            rate / timings.ratio(tile, "peak"),
            at_least=0.85 if used and variant in ("primal", "rank1") else None,
        )


@pytest.mark.benchmark(group="tiles")
def test_trial(benchmark, goal):
    """The trial that chooses the tile once on each machine, with its kernels compiled before."""
    candidates = list(tuning.tiles(ISA).values())
    tuning.trial(candidates)
    seconds = benchmark.pedantic(tuning.trial, args=(candidates,), rounds=5, iterations=1)
    assert all(np.isfinite(seconds))
    goal("trial of register tiles", benchmark.stats["median"] * 1e3, at_most=200, unit=" ms")
