"""Processes that run during a benchmark: they are there while it runs, and have ended after it."""

import subprocess
import sys
import time

import pytest

from fgnumba.bench.measure.neighbours import Neighbour, busy
from fgnumba.bench.measure.peers import installed


@pytest.fixture
def begun(monkeypatch):
    """Return the processes that are begun, as they are."""
    found = []

    class Noted(subprocess.Popen):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            found.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return found


def test_a_busy_process_lasts_as_long_as_its_block(begun):
    with busy():
        (process,) = begun
        assert process.poll() is None
    assert process.returncode is not None


def test_a_busy_process_ends_with_an_error_in_its_block(begun):
    def fail():
        with busy():
            raise ValueError("in the block")

    with pytest.raises(ValueError, match="in the block"):
        fail()
    assert begun[0].returncode is not None


@pytest.mark.skipif(sys.platform != "linux", reason="reads what a process has used from /proc")
def test_a_busy_process_keeps_its_core_busy(begun):
    def ticks():
        with open(f"/proc/{begun[0].pid}/stat", encoding="ascii") as file:
            return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))

    with busy():
        before, deadline = ticks(), time.monotonic() + 30
        while ticks() < before + 5:
            assert time.monotonic() < deadline, "a twentieth of a second's work in half a minute"
            time.sleep(0.01)


@pytest.mark.parametrize("framework", sorted(installed()) or ["none"])
def test_a_framework_takes_as_many_steps_as_it_is_asked_for(framework):
    if not installed():
        pytest.skip("neither JAX nor PyTorch is installed; pip install -e '.[peers]'")
    neighbour = Neighbour(framework, "logreg", 1)
    try:
        assert [len(neighbour.steps(count)) for count in (3, 1)] == [3, 1]
        assert all(seconds > 0 for seconds in neighbour.steps(5))
    finally:
        neighbour.close()


def test_a_process_that_has_ended_is_said_to_have():
    neighbour = Neighbour("a framework that nobody knows", "logreg", 1)
    try:
        with pytest.raises(RuntimeError, match="ended with status 2"):
            neighbour.steps(1)
    finally:
        neighbour.close()
