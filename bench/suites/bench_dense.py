"""The dense kernel in every variant: its share of the multiply-add peak or the memory bandwidth of the same run."""

import numpy as np
import pytest
from numba import njit

from fgnumba.bench.measure.dense_products import VARIANTS, bound, useful_multiply_adds
from fgnumba.bench.measure.timing import interleaved
from fgnumba.kernels.devices.tuning import tuned
from fgnumba.kernels.emit import multiply_add_peak
from fgnumba.kernels.emit.vector import instruction_set
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.rules import directions

ISA = tuned(instruction_set())
ROUNDS_OF_PEAK = 20_000
_peak = multiply_add_peak(ISA)


@njit
def peak(rounds):
    """Run `rounds` rounds of multiply-adds that touch only registers."""
    return _peak(rounds)


PEAK_MULTIPLY_ADDS = ROUNDS_OF_PEAK * ISA.accumulators * ISA.lanes


@pytest.mark.benchmark(group="dense")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("shape", "share"),
    [
        pytest.param((64, 1024, 1024), 0.9, marks=pytest.mark.quick),
        ((61, 257, 1031), 0.7),
        ((8, 1024, 1024), 0.7),
    ],
    ids=str,
)
def test_share_of_peak(benchmark, goal, variant, shape, share):
    batch, inputs, outputs = shape
    program = Program([bound(variant, batch, inputs, outputs, threads=1, isa=ISA)])
    timings = interleaved({"dense": program.run, "peak": lambda: peak(ROUNDS_OF_PEAK)})
    rate = useful_multiply_adds(variant, *shape) / PEAK_MULTIPLY_ADDS
    benchmark.pedantic(program.run, rounds=20, iterations=5, warmup_rounds=2)
    useful = 2 * useful_multiply_adds(variant, *shape)
    benchmark.extra_info["gflops"] = useful / timings.seconds("dense") / 1e9
    goal(
        f"{variant} {'x'.join(map(str, shape))}: share of peak",
        rate / timings.ratio("dense", "peak"),
        at_least=share,
    )


@pytest.mark.benchmark(group="two threads")
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_threads(benchmark, goal, threads, variant):
    if threads != 2:
        pytest.skip("compares two threads with one")
    one, two = (Program([bound(variant, 64, 1024, 1024, threads=n, isa=ISA)], n) for n in (1, 2))
    timings = interleaved({"one": one.run, "two": two.run})
    benchmark.pedantic(two.run, rounds=20, iterations=5, warmup_rounds=2)
    goal(f"{variant} 64x1024x1024: two threads over one", timings.ratio("one", "two"), at_least=1.85)


@njit(fastmath=True)
def read(array):
    """Return the sum of a float32 array: a pass over memory that writes nothing."""
    total = np.float32(0)
    for i in range(array.size):
        total += array[i]
    return total


@pytest.mark.benchmark(group="one example")
@pytest.mark.parametrize("variant", VARIANTS)
def test_one_example(benchmark, goal, variant):
    """A batch of one example, which is limited by reading W (and V, if it is given) or by multiplying."""
    inputs = outputs = 4096
    operation = bound(variant, 1, inputs, outputs, threads=1, isa=ISA)
    program = Program([operation])
    stream = np.ones(1 << 24, np.float32)
    timings = interleaved(
        {"dense": program.run, "read": lambda: read(stream), "peak": lambda: peak(ROUNDS_OF_PEAK)}, rounds=15
    )
    explicit = VARIANTS[variant][0] == directions.EXPLICIT
    bytes_read = 4 * inputs * outputs * (2 if explicit else 1)
    by_memory = bytes_read / stream.nbytes * timings.seconds("read")
    by_peak = useful_multiply_adds(variant, 1, inputs, outputs) / PEAK_MULTIPLY_ADDS * timings.seconds("peak")
    benchmark.pedantic(program.run, rounds=5, iterations=1, warmup_rounds=1)
    goal(
        f"{variant} 1x4096x4096: share of the bound",
        max(by_memory, by_peak) / timings.seconds("dense"),
        at_least=0.8,
    )
