"""Attention by itself: its JVP beside PyTorch's and beside the floor of its products, memory against length."""

import sys
from typing import Any

import numpy as np
import pytest

from fgnumba.bench.measure import attention_peers
from fgnumba.bench.measure.attention_peers import HEADS, SIZE, operands, ours, torchs
from fgnumba.bench.measure.timing import Contender, interleaved
from fgnumba.bench.suites.bench_dense import PEAK_MULTIPLY_ADDS, ROUNDS_OF_PEAK, peak
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.layout.heads import Heads
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.attention import cpu

LENGTH = 2048
SMALL = 12, 4, 64, 32
"""Examples, heads, positions and size of a head: one layer of a small transformer of characters."""


@pytest.mark.quick
@pytest.mark.benchmark(group="attention")
def test_jvp_beside_pytorch(benchmark, goal):
    """The JVP in q, k and v, eight heads of 64, causal."""
    arrays = operands(LENGTH)
    contenders: dict[str, Contender] = {"ours": ours(arrays)}
    theirs = torchs(arrays)
    if theirs is not None:
        contenders["PyTorch"] = theirs
        for one, other in zip(ours(arrays)(), theirs(), strict=True):
            assert abs(one - other.numpy()).max() < 1e-4
    timings = interleaved(contenders)
    benchmark.pedantic(contenders["ours"], rounds=5, warmup_rounds=1)
    goal(f"JVP of attention, L = {LENGTH:,}", timings.seconds("ours") * 1e3, unit="ms")
    if theirs is not None:
        goal("PyTorch's time over ours", timings.ratio("PyTorch", "ours"), at_least=5)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of resident memory is read from /proc")
@pytest.mark.benchmark(group="attention")
def test_memory_beside_operands_and_results(benchmark, goal):
    """The same, and of 8,192 positions."""
    found = {length: attention_peers.resident("ours", length) for length in (LENGTH, 4 * LENGTH)}
    benchmark.pedantic(ours(operands(LENGTH)), rounds=1)
    for length, size in found.items():
        goal(
            f"JVP of attention, L = {length:,}: memory beside operands and results", size / 2**20, unit="MiB"
        )
    if torchs(operands(1)) is not None:
        theirs = attention_peers.resident("torchs", LENGTH)
        goal("its share of PyTorch's", max(found.values()) / theirs, at_most=1 / 20)


@pytest.mark.quick
@pytest.mark.benchmark(group="attention")
@pytest.mark.parametrize("shape", [(1, HEADS, LENGTH, SIZE), SMALL], ids=str)
def test_passes_over_their_floor(benchmark, goal, threads, shape):
    """Forward, with a tangent, and the slope in closed form: time over that of their causal products at the peak."""
    passes = programs(shape)
    contenders: dict[str, Contender] = {name: program.run for name, program in passes.items()}
    timings = interleaved({**contenders, "peak": lambda: peak(ROUNDS_OF_PEAK)})
    benchmark.pedantic(passes["dual"].run, rounds=5)
    for name, program in passes.items():
        products = sum(each.multiply_adds for each in program.operations)
        floor = products / PEAK_MULTIPLY_ADDS / threads
        title = f"attention {shape}, {name}, {threads} threads"
        goal(f"{title}: over its floor", timings.ratio(name, "peak") / floor)
        goal(title, timings.seconds(name) * 1e3, unit="ms")


def programs(shape: tuple[int, ...]) -> dict[str, Program]:
    """Return the passes of a layer, bound to arrays."""
    rng = np.random.default_rng(0)

    def heads(blocks: int = 1) -> Heads:
        return Heads.of_array(rng.standard_normal((blocks, *shape)).astype(np.float32), blocks > 1)

    found = {}
    for name, count in (("primal", 0), ("dual", 1)):
        q, k, v, y = (heads(1 + count) for _ in range(4))
        logs = np.zeros(shape[:3], np.float32)
        given: dict[str, Any] = {
            "batch": shape[0],
            "q": q,
            "k": k,
            "v": v,
            "y": y,
            "scale": shape[3] ** -0.5,
            "causal": True,
        }
        forward = cpu.bind(CPU.isa, CPU.threads, count=count, log_sum_exp=logs, **given)
        found[name] = CPU.program([forward])
        if count == 0:
            found[name].run()
            given |= {name: heads() for name in ("signal", "dq", "dk", "dv")}
            slope = cpu.bind_gradients(CPU.isa, CPU.threads, log_sum_exp=logs, **given)
            found["slope"] = CPU.program(slope)
    return found
