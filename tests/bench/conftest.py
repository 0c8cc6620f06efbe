"""The report that several modules of benchmark tests look at."""

import pytest

from fgnumba.bench.measure import machine, networks
from fgnumba.bench.measure.ratios import Case, measure

BANDWIDTH = 50e9


@pytest.fixture(scope="module")
def report():
    """Return a report of one short case, and of directions and batches made up from it."""
    row = measure(Case("logreg", batch=8), BANDWIDTH, seconds=0.2, rounds=5)
    facts = machine.facts() | {
        "bandwidth_bytes_per_second": BANDWIDTH,
        "peak_flops": row["peak_gflops"] * 1e9,
        "quiet": True,
    }
    rows = [
        row | {"name": name, "direction": direction, "directions": directions, "batch": batch}
        for name in networks.NETWORKS
        for direction, directions, batch in (
            ("rank1", 1, 64),
            ("rank1", 16, 64),
            ("gaussian", 1, 64),
            ("rank1", 1, 8),
        )
    ]
    peer = {
        "peer": "JAX",
        "direction": "rank1",
        "batch": 64,
        **{f"{call}_ms": 1.5 for call in ("f", "jvp", "grad", "forward_step", "reverse_step")},
        "rf": 2.5,
        "rb": 3.0,
        "our_step_over_its_reverse_step": 0.5,
        "our_reverse_step_over_its_reverse_step": 0.7,
    }
    peers = [{"name": name, **peer} for name in networks.NETWORKS]
    return {"machine": facts, "ratios": rows, "peers": peers}
