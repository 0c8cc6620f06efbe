"""The Laplacian of a network in its input: its share of the multiply-add peak, and beside JAX and folx."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench.measure.laplacian_peers import CHUNK, laplacian_peers
from fgnumba.bench.measure.machine import Peak
from fgnumba.bench.measure.timing import interleaved

WIDTHS = (50, 768, 768, 512, 512, 1)
POINTS, PEERS_POINTS = 2048, 16 * CHUNK
LIMITS = {"folx": 1.0}
"""The most that the time over a peer's may be; of all others `NESTED`."""
NESTED = 0.4
AGREES = 1e-3
"""Of the largest Laplacian, beside a peer's in float32."""


def network() -> fg.Sequential:
    layers = [fg.Dense(width, "tanh") for width in WIDTHS[1:-1]]
    return fg.Sequential([*layers, fg.Dense(WIDTHS[-1])], WIDTHS[0], device="cpu")


def points(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, WIDTHS[0])).astype(np.float32)


@pytest.mark.benchmark(group="laplacian")
def test_share_of_peak(benchmark, goal, threads):
    """All products of the pass, of which the first layer's are one row a point, at the peak rate of its threads."""
    operator, x, peak = fg.laplacian(network()), points(POINTS), Peak(threads)
    products = sum(
        operator.bound(part.stop - part.start).multiply_adds for part in operator.model.parts(POINTS)
    )
    timings = interleaved({"laplacian": lambda: operator(x), "peak": peak}, rounds=5)
    benchmark.pedantic(lambda: operator(x), rounds=3)
    goal(
        f"Laplacian of {'-'.join(map(str, WIDTHS))}, {POINTS} points, {threads} threads: share of peak",
        products / peak.multiply_adds / timings.ratio("laplacian", "peak"),
        at_least=0.80,
    )


@pytest.mark.benchmark(group="laplacian")
def test_laplacian_beside_peers(benchmark, goal):
    operator, x = fg.laplacian(network()), points(PEERS_POINTS)
    peers = laplacian_peers(list(operator.model.parameters().values()), x)
    if not peers:
        pytest.skip("JAX is not installed: pip install -e '.[peers]'")
    found = operator(x)[:, 0]
    for name, call in peers.items():
        assert np.abs(call() - found).max() <= AGREES * np.abs(found).max(), name
    timings = interleaved({"fgnumba": lambda: operator(x), **peers}, rounds=5)
    benchmark.pedantic(lambda: operator(x), rounds=3)
    for name in peers:
        goal(
            f"Laplacian over {name}'s ({timings.seconds(name):.2f} s)",
            timings.ratio("fgnumba", name),
            at_most=LIMITS.get(name, NESTED),
        )
