"""The dense kernel in every variant: its share of the multiply-add peak or the memory bandwidth of the same run."""

import numpy as np
import pytest
from numba import njit

from fgnumba.bench.measure.timing import interleaved
from fgnumba.kernels.devices.tuning import tuned
from fgnumba.kernels.emit import multiply_add_peak
from fgnumba.kernels.emit.vector import InstructionSet, instruction_set
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.machine.memory import aligned, leading
from fgnumba.kernels.machine.program import Operation, Program
from fgnumba.kernels.ops.dense import cpu as dense
from fgnumba.kernels.rules import directions
from fgnumba.kernels.rules.philox import STREAM
from fgnumba.kernels.shared.product.product import Weights

ISA = tuned(instruction_set())
ROUNDS_OF_PEAK = 20_000
_peak = multiply_add_peak(ISA)


@njit
def peak(rounds):
    """Run `rounds` rounds of multiply-adds that touch only registers."""
    return _peak(rounds)


PEAK_MULTIPLY_ADDS = ROUNDS_OF_PEAK * ISA.accumulators * ISA.lanes

VARIANTS = {
    "primal": (directions.NONE, 0, True),
    "rank1": (directions.RANK1, 1, True),
    "rank1-x4": (directions.RANK1, 4, True),
    "signs": (directions.RADEMACHER, 1, True),
    "gaussian": (directions.GAUSSIAN, 1, True),
    "explicit": (directions.EXPLICIT, 1, True),
    "rank1-input": (directions.RANK1, 1, False),
    "signs-input": (directions.RADEMACHER, 1, False),
    "gaussian-input": (directions.GAUSSIAN, 1, False),
    "explicit-input": (directions.EXPLICIT, 1, False),
}


def bound(
    variant: str, batch: int, inputs: int, outputs: int, threads: int, isa: InstructionSet = ISA
) -> Operation:
    """Return a dense operation on random numbers."""
    kind, count, has_tangent = VARIANTS[variant]
    rng = np.random.default_rng(0)
    x = aligned(((1 + count) if has_tangent else 1, batch, leading(inputs)))
    x[...] = rng.standard_normal(x.shape)
    weight = pack(rng.standard_normal((inputs, outputs)))
    explicit = kind == directions.EXPLICIT
    return dense.bind(
        isa,
        threads,
        batch=batch,
        x=Images.of_batch(x, (inputs,), has_tangent and count > 0),
        y=Images.of_batch(aligned((1 + count, batch, leading(outputs))), (outputs,), count > 0),
        outputs=outputs,
        weights=Weights(
            weight=weight,
            bias=aligned((weight.shape[0] * 32,)),
            kind=kind,
            count=count,
            parameter=0,
            bias_parameter=1,
            stream=np.zeros(1, STREAM),
            v=np.stack([pack(rng.standard_normal((inputs, outputs)))] * count) if explicit else None,
            v_bias=aligned((count, weight.shape[0] * 32)) if explicit else None,
        ),
        activation_name="relu",
    )


def useful_multiply_adds(variant: str, batch: int, inputs: int, outputs: int) -> int:
    """Return the number of multiply-adds of the mathematical operation, without those for padding and drawing."""
    kind, count, has_tangent = VARIANTS[variant]
    own = kind not in (directions.NONE, directions.RANK1)
    return batch * inputs * outputs * (1 + count * (has_tangent + own))


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
    program = Program([bound(variant, batch, inputs, outputs, threads=1)])
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
    one, two = (Program([bound(variant, 64, 1024, 1024, threads=n)], n) for n in (1, 2))
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
    operation = bound(variant, 1, inputs, outputs, threads=1)
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
