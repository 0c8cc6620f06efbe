"""Goals of the benchmarks: a missed one is reported, and is a failure with --goals; a wrong result always is one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fgnumba.bench
from fgnumba.bench.measure.goals import Figure, lines, missed

BENCH = Path(fgnumba.bench.__file__).parent

BENCHMARKS = """
def test_met(benchmark, goal):
    benchmark(lambda: None)
    goal("a share", 0.95, at_least=0.9)
    goal("a time", 0.5, at_most=3, unit="s")
    goal("a ratio", 7.25)

def test_missed(benchmark, goal):
    benchmark(lambda: None)
    goal("another share", 0.5, at_least=0.9)
    goal("another time", 4, at_most=3, unit="s")

def test_wrong(benchmark, goal):
    benchmark(lambda: None)
    goal("a third share", 0.95, at_least=0.9)
    assert 1 + 1 == 3
"""


def test_a_figure_knows_its_goal():
    share, time, plain = (
        Figure("share", 0.95, at_least=0.9),
        Figure("time", 4.0, at_most=3, unit="s"),
        Figure("ratio", 7.25),
    )
    assert (share.goal, share.direction, share.bound, share.met) == (0.9, "at_least", ">= 0.9", True)
    assert (time.goal, time.direction, time.bound, time.met) == (3, "at_most", "<= 3", False)
    assert (plain.goal, plain.direction, plain.bound, plain.met) == (None, None, "", None)
    assert missed([share, time, plain]) == ["time: 4 s, goal <= 3"]
    assert time.as_json() == {
        "name": "time",
        "measured": 4.0,
        "unit": "s",
        "goal": 3,
        "direction": "at_most",
        "met": False,
    }


@pytest.mark.parametrize("goal", [{"at_least": 1.0}, {"at_most": 1.0}])
def test_a_goal_is_met_at_its_bound_and_never_by_nan(goal):
    assert Figure("bound", 1.0, **goal).met is True
    assert Figure("nan", float("nan"), **goal).met is False
    unmeasured = Figure("unmeasured", None, **goal)
    assert unmeasured.met is None
    assert unmeasured.verdict == "not measured"
    assert missed([unmeasured]) == []


def test_a_figure_has_one_goal():
    with pytest.raises(ValueError, match="a share: at_least and at_most are both given"):
        Figure("a share", 0.9, at_least=0.8, at_most=1.0)


def test_figures_come_back_from_json():
    for figure in (Figure("a", 0.5, at_least=0.9), Figure("b", None, at_most=3, unit="s"), Figure("c", 7.25)):
        assert Figure.from_json(json.loads(json.dumps(figure.as_json()))) == figure


def test_the_table_of_figures():
    figures = [Figure("share", 0.95, at_least=0.9), Figure("a time", 4.0, at_most=3, unit="s")]
    assert lines([*figures, Figure("ratio", 7.25), Figure("here not", None, at_most=1)]) == [
        "share     0.95  >= 0.9  met",
        "a time     4 s    <= 3  MISSED",
        "ratio     7.25",
        "here not          <= 1  not measured",
        "1 of 2 goals are met",
    ]
    assert lines([]) == []


def benchmarks(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `BENCHMARKS` as ``pytest bench`` runs the repository's."""
    for name in ("suites/conftest.py", "pytest.ini"):
        (folder / Path(name).name).write_text((BENCH / name).read_text(encoding="utf-8"))
    (folder / "bench_some.py").write_text(BENCHMARKS)
    fast = ("--benchmark-min-time=0.0001", "--benchmark-max-time=0.01", "--benchmark-json=out.json")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *fast, *options],
        cwd=folder,
        # This test may run in a worker process of pytest-xdist, in which benchmarks do not run.
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_missed_goals_are_reported_and_stored(tmp_path):
    done = benchmarks(tmp_path, "-k", "not wrong")
    assert done.returncode == 0, done.stdout
    table = done.stdout[done.stdout.index("figures beside their goals") :]
    assert "a share         0.95  >= 0.9  met" in table
    assert "a ratio         7.25\n" in table
    assert "another share    0.5  >= 0.9  MISSED" in table
    assert "another time     4 s    <= 3  MISSED" in table
    assert "2 of 4 goals are met" in table
    assert "it does with --goals" in table
    stored = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["benchmarks"]
    figures = {one["name"]: one["extra_info"]["figures"] for one in stored}
    assert [one["met"] for one in figures["test_met"]] == [True, True, None]
    assert figures["test_missed"][0] == {
        "name": "another share",
        "measured": 0.5,
        "unit": "",
        "goal": 0.9,
        "direction": "at_least",
        "met": False,
    }
    assert all("processor" in one["extra_info"]["machine"] for one in stored)


def test_missed_goals_fail_where_that_is_asked_for(tmp_path):
    done = benchmarks(tmp_path, "--goals", "-k", "not wrong")
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "another share: 0.5, goal >= 0.9\nanother time: 4 s, goal <= 3\n" in done.stdout
    assert "error" not in done.stdout.splitlines()[-1]
    assert "it does with --goals" not in done.stdout
    assert benchmarks(tmp_path, "--goals", "-k", "test_met").returncode == 0


@pytest.mark.parametrize("options", [(), ("--goals",)])
def test_wrong_results_fail_in_any_case(tmp_path, options):
    done = benchmarks(tmp_path, "-k", "wrong", *options)
    assert done.returncode == 1
    assert "assert (1 + 1) == 3" in done.stdout
    assert "goals missed" not in done.stdout
