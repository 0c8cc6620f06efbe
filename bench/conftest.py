"""What every benchmark shares: targets that fail where they are missed, and their table at the end."""

import platform
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest

import fgnumba
from fgnumba.bench.machine import facts
from fgnumba.kernels.threads import OVERRIDE, thread_count
from fgnumba.kernels.vector import instruction_set

_rows: list[tuple[str, str, str, bool]] = []


@pytest.fixture
def target(benchmark: Any) -> Iterator[Callable[..., None]]:
    """Return a check ``(what, measured, at_least=, at_most=, unit=)`` of a figure against its target, if it has one."""
    missed: list[str] = []

    def check(
        what: str,
        measured: float,
        at_least: float | None = None,
        at_most: float | None = None,
        unit: str = "",
    ) -> None:
        bound, met = "none", True
        if at_least is not None:
            bound, met = f">= {at_least:g}", measured >= at_least
        elif at_most is not None:
            bound, met = f"<= {at_most:g}", measured <= at_most
        _rows.append((what, f"{measured:.3g}{unit}", bound, met))
        benchmark.extra_info[what] = {"measured": measured, "target": bound, "met": met}
        if not met:
            missed.append(f"{what}: {measured:.3g}{unit}, target {bound}")

    benchmark.extra_info["machine"] = facts()
    yield check
    if missed:
        pytest.fail("\n".join(missed), pytrace=False)


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Plans made in the benchmark use this many threads."""
    count: int = request.param
    if count > numba.config.NUMBA_NUM_THREADS:
        pytest.skip(f"this process may use {numba.config.NUMBA_NUM_THREADS} processor")
    monkeypatch.setenv(OVERRIDE, str(count))
    return count


def pytest_report_header() -> str:
    """Stamp the run with hardware and versions."""
    return (
        f"fgnumba {fgnumba.__version__}, numba {numba.__version__}, numpy {np.__version__}, "
        f"{instruction_set().name}, {thread_count()} threads, {platform.machine()} {platform.platform()}"
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print every figure beside its target."""
    if _rows:
        terminalreporter.section("targets")
        width = max(len(row[0]) for row in _rows)
        for what, measured, bound, met in _rows:
            terminalreporter.line(
                f"{what:{width}}  {measured:>10}  {bound:>10}  {'met' if met else 'MISSED'}"
            )
