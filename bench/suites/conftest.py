"""Fixtures of all benchmarks: measured numbers ("figures") with goals, printed at the end and stored with the data.

``--goals`` makes a benchmark fail if it misses a goal. Without it, only a wrong result is a failure.
"""

import platform
from collections.abc import Callable, Generator
from typing import Any

import numba
import numpy as np
import pytest

import fgnumba
from fgnumba.bench.measure.goals import Figure, lines, missed
from fgnumba.bench.measure.machine import facts
from fgnumba.kernels.emit.vector import instruction_set
from fgnumba.kernels.machine.threads import OVERRIDE, most_threads, thread_count

FIGURES = pytest.StashKey[list[Figure]]()
"""Key of the figures: those of one benchmark in its item's stash, those of all benchmarks in the configuration's."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--goals`` and ``--mnist``."""
    parser.addoption("--goals", action="store_true", help="fail a benchmark that misses a goal")
    parser.addoption(
        "--mnist", metavar="DIR", help="folder of MNIST's IDX files, for benchmarks that train on them"
    )


@pytest.fixture
def goal(request: pytest.FixtureRequest, benchmark: Any) -> Callable[..., None]:
    """Return a function that reports a figure: ``goal(name, measured, at_least=, at_most=, unit=)``.

    Its parameters are those of :class:`fgnumba.bench.measure.goals.Figure`. It never fails. The figure is stored in the
    benchmark's ``extra_info["figures"]`` and printed in the table at the end.
    """
    own = request.node.stash.setdefault(FIGURES, [])
    everything = request.config.stash.setdefault(FIGURES, [])
    stored = benchmark.extra_info.setdefault("figures", [])
    benchmark.extra_info["machine"] = facts()

    def report(
        name: str,
        measured: float,
        at_least: float | None = None,
        at_most: float | None = None,
        unit: str = "",
    ) -> None:
        figure = Figure(name, float(measured), at_least, at_most, unit)
        own.append(figure)
        everything.append(figure)
        stored.append(figure.as_json())

    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a benchmark that misses a goal, if ``--goals`` is given."""
    result = yield
    if item.config.getoption("goals"):
        figures = item.stash.setdefault(FIGURES, [])
        misses = missed(figures)
        if misses:
            pytest.fail("\n".join(["goals missed", *misses]), pytrace=False)
    return result


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the number of threads that plans made in the benchmark use."""
    count: int = request.param
    if count > most_threads():
        pytest.skip(f"this process may use {most_threads()} processor")
    monkeypatch.setenv(OVERRIDE, str(count))
    return count


def pytest_report_header() -> str:
    """Print the hardware and the versions at the beginning."""
    return (
        f"fgnumba {fgnumba.__version__}, numba {numba.__version__}, numpy {np.__version__}, "
        f"{instruction_set().name}, {thread_count()} threads, {platform.machine()} {platform.platform()}"
    )


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print every figure with its goal."""
    figures = config.stash.setdefault(FIGURES, [])
    if figures:
        terminalreporter.section("figures beside their goals")
        for line in lines(figures):
            terminalreporter.line(line)
        if missed(figures) and not config.getoption("goals"):
            terminalreporter.line("a missed goal does not fail here; it does with --goals")
