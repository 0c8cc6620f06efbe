"""Derivatives of functions by forward mode: over the function itself, beside JAX and PyTorch, and compile times."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fgnumba.bench.measure.function_kernels import KERNELS, MANY
from fgnumba.bench.measure.function_peers import gradients_of_peers, tangents_of_peers
from fgnumba.bench.measure.timing import Timings, interleaved

CHUNK = 8
ONE, EIGHT = 2.2, 5.0
"""The most that one tangent, and eight in a pass, may take over the function itself."""
LIMITS = {"JAX": 1 / 3, "PyTorch": 1 / 20}
"""The most that the time of one tangent may be over a peer's."""
ROUNDS = {"JAX": 15, "PyTorch": 3}
AGREES = 1e-9
"""Relative, beside a peer's derivative in float64 after some thousand steps."""
STEPS = 10_000_000

COMPILE = """
import json, sys, time
import numpy as np
from fgnumba.bench.measure.function_kernels import KERNELS
kernel = KERNELS[sys.argv[1]]
calls, seconds = kernel.calls(), {}
for name, call in calls.items():
    start = time.perf_counter()
    call()
    seconds[name] = time.perf_counter() - start
print(json.dumps(seconds))
"""

MEMORY = """
import json, sys
from pathlib import Path
import numpy as np
from fgnumba.bench.measure.function_kernels import KERNELS, lorenz_steps
x = KERNELS["Lorenz"].x
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
lorenz_steps.tangent(x, 10, np.ones(6), None)
Path("/proc/self/clear_refs").write_text("5")
before = peak()
lorenz_steps.tangent(x, int(sys.argv[1]), np.ones(6), None)
print(json.dumps((peak() - before) / 1024))
"""


def measured(source: str, *arguments: str, **environment: str):
    """Return what a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", source, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def least(timings: Timings, name: str, over: str) -> float:
    """Return the ratio of the shortest samples, which other work on the machine changes less than medians."""
    return min(timings.samples[name]) / min(timings.samples[over])


@pytest.mark.benchmark(group="functions")
@pytest.mark.parametrize("name", KERNELS)
def test_tangents_over_the_function(benchmark, goal, name):
    kernel = KERNELS[name]
    calls, passes = kernel.calls(), kernel.passes(CHUNK)
    derivative = np.sum(calls["gradient"]() * kernel.direction)
    np.testing.assert_allclose(calls["tangent"]()[1], derivative, AGREES)
    timings = interleaved(calls, rounds=15, seconds=10)
    benchmark.pedantic(calls["tangent"], rounds=5)
    for label, contender, share, limit in (
        ("one tangent", "tangent", 1, ONE),
        (f"{CHUNK} tangents", "gradient", passes, EIGHT),
    ):
        goal(f"{name}: {label} over the function", timings.ratio(contender, "primal") / share, at_most=limit)
        goal(f"{name}: the same, shortest samples", least(timings, contender, "primal") / share)


@pytest.mark.benchmark(group="functions")
@pytest.mark.parametrize("name", KERNELS)
def test_one_tangent_beside_peers(benchmark, goal, name):
    peers = tangents_of_peers(name)
    if not peers:
        pytest.skip("JAX and PyTorch are not installed: pip install -e '.[peers]'")
    calls = KERNELS[name].calls()
    found = calls["tangent"]()[1]
    for peer, call in peers.items():
        np.testing.assert_allclose(float(call()[1]), found, AGREES, err_msg=peer)
    benchmark.pedantic(calls["tangent"], rounds=5)
    for peer, call in peers.items():
        # PyTorch's loops take up to a second.
        timings = interleaved({"fgnumba": calls["tangent"], peer: call}, rounds=ROUNDS[peer])
        shown = f"{1e3 * timings.seconds(peer):.3g} ms"
        goal(
            f"{name}: one tangent over {peer}'s ({shown})",
            timings.ratio("fgnumba", peer),
            at_most=LIMITS[peer],
        )


@pytest.mark.benchmark(group="functions")
def test_gradient_of_a_hundred_numbers(benchmark, goal):
    calls, peers = MANY.calls(), gradients_of_peers()
    benchmark.pedantic(calls["gradient"], rounds=3)
    timings = interleaved({**calls, **peers}, rounds=9, seconds=20)
    goal(
        f"gradient of {MANY.x.size} numbers over the function",
        timings.ratio("gradient", "primal"),
        at_most=EIGHT * MANY.passes(CHUNK),
    )
    for peer, call in peers.items():
        np.testing.assert_allclose(call(), calls["gradient"](), AGREES, AGREES * np.abs(call()).max())
        goal(
            f"gradient of {MANY.x.size} numbers over jax.jacfwd's",
            timings.ratio("gradient", peer),
            at_most=1 / 3,
        )


@pytest.mark.benchmark(group="functions")
@pytest.mark.parametrize("name", ["Lotka-Volterra", "Lorenz"])
def test_seconds_of_compiling(benchmark, goal, name, tmp_path):
    """Each in a process of its own: without any machine code on disk, and with what the first one left."""
    first, second = (measured(COMPILE, name, FGNUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    benchmark.pedantic(measured, args=(COMPILE, name), kwargs={"FGNUMBA_CACHE_DIR": str(tmp_path)}, rounds=1)
    for label, seconds in (("first", first), ("from disk", second)):
        goal(f"{name}: one tangent, {label}", seconds["tangent"], at_most=3, unit="s")
        goal(f"{name}: {CHUNK} tangents, {label}", seconds["gradient"], unit="s")


@pytest.mark.benchmark(group="functions")
@pytest.mark.parametrize("steps", [STEPS, 10 * STEPS])
def test_memory_does_not_grow_with_steps(benchmark, goal, steps):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of memory is read from Linux's /proc")
    grown = benchmark.pedantic(measured, args=(MEMORY, str(steps)), rounds=1)
    goal(f"Lorenz, {steps:,} steps with a tangent: MB beyond ten steps", grown, at_most=1, unit="MB")
