"""Parts that threads share: each runs once, nobody waits for a thread that has begun none, idle threads sleep."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import carray

from fgnumba.kernels.emit import atomics, pointer
from fgnumba.kernels.machine import sharing, workers
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation, Program, Stage
from tests.apart import ROOT

ARGUMENTS = record("counts", "meeting", "wanted", "limit")


def _count(arguments, part, parts):
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    atomics.add(a.counts + part * 8, 1)


def _meet(arguments, part, parts):
    """Count the part, and stay in it until so many threads are in one."""
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    atomics.add(a.counts + part * 8, 1)
    atomics.add(a.meeting, 1)
    end = atomics.ticks() + a.limit
    while atomics.load(a.meeting) < a.wanted and atomics.ticks() < end:
        atomics.relax()


def counting(parts, body=_count, **more):
    counts = np.zeros(parts, np.int64)
    meeting = np.zeros(1, np.int64)
    fields = {"counts": address(counts), "meeting": address(meeting), **more}
    operation = Operation(
        body.__name__,
        kernel(f"test{body.__name__}", body, 3),
        filled(ARGUMENTS, fields),
        parts,
        keeps=(counts, meeting),
    )
    return operation, counts, meeting


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=8))
@settings(deadline=None)
def test_each_part_of_each_operation_runs_once(stages):
    operations, steps = [], []
    for parts, lanes, length in stages:
        of_stage = [counting(parts) for _ in range(length)]
        operations += of_stage
        steps.append(Stage(tuple(op for op, _, _ in of_stage), parts, min(lanes, parts), 0))
    found = Program(steps)
    for _ in range(20):
        found.run()
    for _, counts, _ in operations:
        np.testing.assert_array_equal(counts, 20)


def test_more_parts_than_a_word_has_room_for():
    operation, counts, _ = counting(3 * sharing.MOST_PARTS + 7)
    Program([Stage((operation,), len(counts), 2, 0)]).run()
    np.testing.assert_array_equal(counts, 1)


def set_longest_rest(found, ticks):
    found._memory[sharing.LONGEST_REST // 8] = ticks


@pytest.fixture
def own(monkeypatch):
    """Return a function that gives this test workers of its own, none that others have tired."""
    made = []

    def begin(most):
        made.append(workers.Workers(most))
        # A busy machine would have the caller rest, and its parts would wait for a worker that is not called.
        set_longest_rest(made[-1], 0)
        monkeypatch.setattr(workers, "_workers", made[-1])
        return made[-1]

    yield begin
    for one in made:
        one.stop()


def test_sleepers_wake_each_other(own):
    # More than the caller wakes by itself.
    lanes = sharing.WAKES + 4
    found = own(lanes)
    found.grow(lanes)
    limit = int(60 * workers.ticks_a_second())
    for lane in range(1, lanes):
        wait_until_asleep(found, lane)
    operation, counts, meeting = counting(lanes, _meet, wanted=lanes, limit=limit)
    Program([Stage((operation,), lanes, lanes, 0)]).run()
    assert meeting[0] == lanes
    np.testing.assert_array_equal(counts, 1)


def test_threads_work_at_the_same_time(own):
    own(3).grow(3)
    limit = int(60 * workers.ticks_a_second())
    operation, counts, meeting = counting(3, _meet, wanted=3, limit=limit)
    Program([Stage((operation,), 3, 3, 0)]).run()
    assert meeting[0] == 3
    np.testing.assert_array_equal(counts, 1)


def test_a_caller_does_not_wait_for_threads_that_have_begun_nothing(own, monkeypatch):
    # Threads that are there, and never get a core.
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    monkeypatch.setattr(threading.Thread, "join", lambda self, timeout=None: None)
    found = own(4)
    found.grow(4)
    operation, counts, _ = counting(64)
    Program([Stage((operation,), 64, 4, 0)]).run()
    np.testing.assert_array_equal(counts, 1)


def test_a_system_that_allows_no_more_threads_is_worked_with(own, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    found = own(4)
    operation, counts, _ = counting(64)
    running = Program([Stage((operation,), 64, 4, 0)])
    for _ in range(3):
        running.run()
    np.testing.assert_array_equal(counts, 3)
    assert found.lanes == 4


def test_a_caller_that_lost_time_to_a_part_works_alone_for_a_while(own):
    found = own(2)
    found.grow(2)
    second = int(workers.ticks_a_second())
    word, rest = (place // 8 for place in (sharing.WORD, sharing.REST))
    # No rest ends while this test looks, however busy the machine is.
    set_longest_rest(found, 3600 * second)
    # The caller leaves its part when the worker has begun, which takes it a quarter of a second at most; the worker's
    # part takes a second.
    slow, counts, _ = counting(2, _linger, wanted=1, limit=second)
    again, counts_again, _ = counting(64)
    lost, alone = Program([Stage((slow,), 2, 2, 0)]), Program([Stage((again,), 64, 2, 0)])
    lost.run()
    np.testing.assert_array_equal(counts, 1)
    assert found._memory[rest] > sharing.clock()
    before = found._memory[word]
    found._memory[rest] = sharing.clock() + 1800 * second
    alone.run()
    assert found._memory[word] == before, "a stage was opened to the worker that lost its core"
    found._memory[rest] = sharing.clock() - 1
    alone.run()
    assert found._memory[word] != before
    np.testing.assert_array_equal(counts_again, 2)


def test_a_rest_that_is_longer_than_any_is_none(own):
    # The clock has gone back: another host, or the machine was suspended.
    found = own(2)
    found.grow(2)
    operation, counts, _ = counting(64)
    running = Program([Stage((operation,), 64, 2, 0)])
    found._memory[sharing.REST // 8] = sharing.clock() + 3600 * int(workers.ticks_a_second())
    before = found._memory[sharing.WORD // 8]
    running.run()
    assert found._memory[sharing.WORD // 8] != before
    np.testing.assert_array_equal(counts, 1)


def test_a_lost_core_costs_no_more_rest_than_the_longest(own):
    found = own(2)
    found.grow(2)
    second = int(workers.ticks_a_second())
    set_longest_rest(found, second // 10)
    slow, _, _ = counting(2, _linger, wanted=1, limit=second)
    Program([Stage((slow,), 2, 2, 0)]).run()
    # It lost about a second, eight times of which would be the rest.
    assert found._memory[sharing.REST // 8] - sharing.clock() <= second // 10


def test_an_interrupt_while_threads_begin_gives_no_lane_to_two(own, monkeypatch):
    found, start = own(3), threading.Thread.start

    def interrupted(self):
        start(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found.grow(3)
    monkeypatch.setattr(threading.Thread, "start", start)
    found.grow(3)
    assert [thread.name for thread in found._threads] == ["fgnumba-1", "fgnumba-2"]
    alive = [thread for thread in threading.enumerate() if thread in found._threads]
    assert len(alive) == len(found._threads)


def test_a_program_runs_where_workers_are_being_begun(monkeypatch):
    # A signal's handler that runs a model has interrupted the thread that begins them.
    monkeypatch.setattr(workers, "_workers", None)
    operation, counts, _ = counting(64)
    with workers._beginning:
        Program([Stage((operation,), 64, 2, 0)]).run()
    np.testing.assert_array_equal(counts, 1)
    assert workers._workers is None


def _linger(arguments, part, parts):
    """Stay in the last part, which a worker takes, until `limit`; leave the first when the last has begun."""
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    atomics.add(a.counts + part * 8, 1)
    end = atomics.ticks() + a.limit
    if part == 0:
        while atomics.load(a.meeting) < a.wanted and atomics.ticks() < end:
            atomics.relax()
    else:
        atomics.add(a.meeting, 1)
        while atomics.ticks() < end:
            atomics.relax()


def asleep(found, lane):
    return found._memory[(sharing.SLOTS + lane * sharing.SLOT + sharing.ASLEEP) // 8] == 1


def wait_until_asleep(found, lane):
    """Wait for a worker to fall asleep, however slow the machine is."""
    end = time.monotonic() + 300
    while not asleep(found, lane):
        assert time.monotonic() < end, "a worker that has nothing to do does not sleep"
        time.sleep(1e-4)


def test_idle_workers_sleep(own):
    found = own(3)
    found.grow(3)
    operation, _, _ = counting(64)
    Program([Stage((operation,), 64, 3, 0)]).run()
    for lane in (1, 2):
        wait_until_asleep(found, lane)


def test_a_sleeping_worker_wakes(own):
    found = own(2)
    found.grow(2)
    limit = int(60 * workers.ticks_a_second())
    for _ in range(20):
        wait_until_asleep(found, 1)
        operation, _, meeting = counting(2, _meet, wanted=2, limit=limit)
        Program([Stage((operation,), 2, 2, 0)]).run()
        assert meeting[0] == 2


def test_every_lane_has_scratch_memory_and_buffers_of_its_own():
    operation, _, _ = counting(8)
    operation.scratch_bytes, operation.local = 40, ("counts",)
    first = int(operation.arguments["counts"][0])
    running = Program([Stage((operation,), 8, 3, 128)])
    (bound,) = running.operations
    np.testing.assert_array_equal(bound.arguments["counts"], first + 128 * np.arange(3))
    scratch = bound.arguments["scratch"] - address(running.scratch)
    np.testing.assert_array_equal(scratch, [0, 64, 128])
    assert running.scratch_nbytes == 3 * 64


def test_one_lane_needs_no_workers():
    assert workers.pool(1) == 0


PINNED = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from tests.robustness.test_thread_safety import perceptron, trained
import fgnumba.kernels.machine.threads as threads
assert threads.thread_count() == 2
trained(perceptron, "weight-perturbation", 1, 50)
"""

ENDING = """
import sys
import threading
import time
from tests.robustness.test_thread_safety import batches, perceptron, trainer_of
model = perceptron()
trainer, (x, y) = trainer_of(model, "weight-perturbation", 1), next(batches(model, 1, 1))
begun = threading.Event()


def train():
    while True:
        trainer.step(x, y)
        begun.set()


threading.Thread(target=train, daemon=True).start()
begun.wait()
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process")
def test_two_threads_on_one_processor():
    apart(PINNED)


@pytest.mark.parametrize("seconds", [0.0, 0.003, 0.01, 0.02, 0.03, 0.05])
def test_a_process_ends_in_the_middle_of_a_program(seconds):
    apart(ENDING, str(seconds))


def apart(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, "FGNUMBA_DEVICE": "cpu", "NUMBA_NUM_THREADS": "2", "FGNUMBA_THREADS": "2"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
