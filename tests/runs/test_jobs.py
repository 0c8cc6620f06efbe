"""Tasks in processes of their own: the same results, a share of the threads each, and an end of all of them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench.learning.compare_estimators import Budget, compare
from fgnumba.kernels.machine.threads import most_threads, thread_count
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.jobs import in_turn, mapper_of
from fgnumba.runs.search import Search, Trial, search
from tests.fault_runs import COMMAND, ENVIRONMENT, PATIENCE
from tests.places import ROOT

pytest.importorskip("joblib")
needs_two = pytest.mark.skipif(most_threads() < 2, reason="needs two processors")


def until(condition):
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(process):
    """Return whether there is a process of this number, which may belong to a parent that has not noticed its end."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def squared(number):
    return number, number**2, os.getpid()


def threads_here(_):
    return os.environ["FGNUMBA_THREADS"], os.environ["NUMBA_NUM_THREADS"], thread_count(), most_threads()


def refusing(number):
    raise fg.ConfigError(f"number {number} is refused")


def killed(_):
    os.kill(os.getpid(), signal.SIGKILL)


def sleeping(seconds):
    time.sleep(seconds)
    return os.getpid()


def test_one_job_is_this_process():
    assert mapper_of(1) is in_turn
    assert list(in_turn(squared, [2, 3])) == [(0, (2, 4, os.getpid())), (1, (3, 9, os.getpid()))]


@needs_two
def test_each_task_gets_its_own_result():
    results = dict(mapper_of(2)(squared, range(7)))
    assert [results[number][:2] for number in range(7)] == [(number, number**2) for number in range(7)]
    assert os.getpid() not in {pid for _, _, pid in results.values()}
    assert list(mapper_of(2)(squared, [])) == []


@needs_two
@pytest.mark.parametrize("inherited", [None, "1", "2"])
def test_processes_share_the_threads(monkeypatch, inherited):
    monkeypatch.delenv("FGNUMBA_THREADS", raising=False)
    if inherited is not None:
        monkeypatch.setenv("FGNUMBA_THREADS", inherited)
    share = max(1, thread_count() // 2)
    for _, found in mapper_of(2)(threads_here, range(4)):
        assert found == (str(share), str(share), share, share)


@needs_two
def test_an_error_of_a_task_is_raised_here():
    with pytest.raises(fg.ConfigError, match=r"^number \d is refused$"):
        list(mapper_of(2)(refusing, range(5)))


@needs_two
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_a_process_that_is_killed_is_said_in_one_line():
    with pytest.raises(fg.RunError) as caught:
        list(mapper_of(2)(killed, range(2)))
    expected = "jobs: a process ended before its task did (SIGKILL(-9)); fewer than 2 jobs need less memory"
    assert str(caught.value).replace("SIGKILL(-9), SIGKILL(-9)", "SIGKILL(-9)") == expected
    assert dict(mapper_of(2)(squared, [3]))[0][1] == 9


@needs_two
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_results_that_nobody_waits_for_end_the_processes():
    results = mapper_of(2)(sleeping, [0.0, *[10.0 * PATIENCE] * 3])
    _, process = next(results)
    assert is_alive(process)
    results.close()
    until(lambda: not is_alive(process))


@pytest.mark.parametrize("jobs", [0, most_threads() + 1, 1.5, True])
def test_impossible_numbers_of_jobs(jobs):
    with pytest.raises(fg.ConfigError, match=f"jobs is {jobs}; a whole number from 1 to {most_threads()}"):
        mapper_of(jobs)


NO_PROCESSES = """
import multiprocessing

from fgnumba.errors import ConfigError
from fgnumba.runs.jobs import mapper_of


def refusal(jobs):
    try:
        mapper_of(jobs)
    except ConfigError as error:
        return str(error)


if __name__ == "__main__":
    print(refusal(2))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(refusal, [2])[0])
"""


@needs_two
@pytest.mark.parametrize("allowed", ["0", "1"])
def test_several_jobs_are_refused_where_no_processes_can_be_started(tmp_path, allowed):
    script = tmp_path / "script.py"
    script.write_text(NO_PROCESSES)
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "JOBLIB_MULTIPROCESSING": allowed},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    here, in_a_pool = done.stdout.splitlines()
    expected = (
        "jobs is 2; joblib starts no processes here, in a process of a pool, in a thread of a parallel loop"
    )
    assert in_a_pool.startswith(expected)
    assert here.startswith(expected) if allowed == "0" else here == "None"


@needs_two
def test_joblib_is_named_where_it_is_missing(fgtrain, monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    for command in ("search", "compare"):
        error = fgtrain(command, "--jobs", 2).error
        assert error.startswith("jobs is 2; joblib")
        assert error.endswith("pip install 'fgnumba[jobs]'")


@pytest.fixture(scope="module")
def many():
    """Return a data set of more than a megabyte, which joblib hands on as a read-only map of a file."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 9000)
    x = (rng.standard_normal((9000, 40)) + 2 * np.eye(3, 40)[y]).astype(np.float32)
    assert x[:8500].nbytes > 1 << 20
    return fg.datasets.Dataset("many", x[:8500], y[:8500], x[8500:], y[8500:], 3)


CONFIG = RunConfig(widths=(8,), batch_size=30)


@needs_two
def test_a_search_finds_the_same_bits(many):
    what, told = Search(1e-4, 1e-1, 4, steps=30), list[Trial]()
    known = search(CONFIG, many, what)
    assert search(CONFIG, many, what, tell=told.append, mapper=mapper_of(2)) == known
    # Whatever the order in which they ended.
    assert sorted(map(repr, told)) == sorted(map(repr, known))
    assert search(CONFIG, many, what, known=told[1:], mapper=mapper_of(2)) == known


@needs_two
@pytest.mark.parametrize("budget", [Budget("steps", 20), Budget("products", 1e6)])
def test_a_comparison_finds_the_same_bits(many, budget):
    names, told = ("feedback", "weight-perturbation", "reverse-mode"), list[str]()
    known = compare(names, CONFIG, many, budget, seeds=2, evaluations=2)
    found = compare(
        names, CONFIG, many, budget, seeds=2, evaluations=2, advance=told.append, mapper=mapper_of(2)
    )
    for one, other in zip(found.curves, known.curves, strict=True):
        one.seconds = other.seconds
        assert one == other
    assert told[0] == "6 runs"
    assert [line.split(":")[0] for line in told[1:]] == [f"{n} of 6 runs" for n in range(1, 7)]


@needs_two
def test_commands_print_the_same(fgtrain, folder):
    options = ("search", "--widths", 4, "--count", 3, "--steps", 9, "--batch-size", 100)
    one, two = (fgtrain(*options, "--jobs", jobs, "--out", f"of-{jobs}") for jobs in (1, 2))
    assert (one.code, one.out) == (two.code, two.out)
    assert two.err.splitlines()[-1].split(":")[1] == " 4 of 4 trials"
    ledgers = [sorted((folder / f"of-{jobs}").read_text().splitlines()) for jobs in (1, 2)]
    assert ledgers[0] == ledgers[1]
    assert "one job" in fgtrain("compare", "--seconds", 1, "--jobs", 2).error


@needs_two
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_ends_all_processes_and_leaves_what_has_ended(folder):
    options = (
        "search",
        "--widths",
        "4",
        "--count",
        "200",
        "--steps",
        "100000",
        "--jobs",
        "2",
        "--out",
        "trials",
    )
    with (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [*COMMAND, *options], cwd=folder, env=ENVIRONMENT, stderr=errors, start_new_session=True
        )

    def trials():
        return (folder / "trials").read_text().splitlines()[1:] if (folder / "trials").exists() else []

    try:
        until(lambda: len(trials()) >= 2 or process.poll() is not None)
        children = children_of(process.pid)
        # What a terminal does: all processes of the group get the signal.
        os.killpg(process.pid, signal.SIGINT)
        process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    messages = (folder / "stderr").read_text()
    assert (process.returncode, len(children) >= 2) == (130, True), messages
    assert all(json.loads(line)["steps"] == 1234 for line in trials())
    until(lambda: not any(map(is_alive, children)))
    assert "Traceback" not in messages
    said = [line for line in messages.splitlines() if not line.startswith("298 trials: ")]
    assert said == ["fgtrain: ended by SIGINT; run the same command again to continue"], messages


@needs_two
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_end_with_one_that_is_killed(folder):
    code = "from tests.runs.test_jobs import *\nlist(mapper_of(2)(sleeping, [10.0 * PATIENCE] * 2))"
    process = subprocess.Popen([sys.executable, "-c", code], env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)})
    try:
        until(lambda: len(workers_of(process.pid)) == 2 or process.poll() is not None)
        workers = workers_of(process.pid)
        # They look for their parent from their first task on, which comes some time after their start.
        until(lambda: all(count_of_threads(worker) >= 2 for worker in workers))
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    until(lambda: not any(map(is_alive, workers)))


def workers_of(process):
    """Return the numbers of the processes that joblib started for the tasks of another one."""
    found = []
    for child in children_of(process):
        with contextlib.suppress(OSError), open(f"/proc/{child}/cmdline", "rb") as file:
            if b"popen_loky" in file.read():
                found.append(child)
    return found


def count_of_threads(process):
    return len(os.listdir(f"/proc/{process}/task"))


def children_of(process):
    """Return the numbers of a process's children."""
    with open(f"/proc/{process}/task/{process}/children") as file:
        return [int(number) for number in file.read().split()]
