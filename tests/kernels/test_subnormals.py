"""Subnormal numbers count as zero while a program runs, and nowhere else."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import carray, njit

import fgnumba as fg
from fgnumba.kernels.emit import atomics, pointer
from fgnumba.kernels.machine import workers
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation, Program, Stage

pytestmark = pytest.mark.skipif(atomics.FLUSH == 0, reason="this processor's mode is left as it is")

TINY, SMALL = np.float32(1e-40), np.float32(1e-20)
ARGUMENTS = record("out", "inputs", "meeting", "limit")


@njit
def mode():
    return atomics.floating_point_mode()


@njit
def set_mode(value):
    atomics.set_floating_point_mode(value)


def subnormals_survive():
    """Return whether this thread computes with subnormal operands and results, as NumPy sees it."""
    operand = np.full(64, TINY) * np.float32(1e10)
    result = np.full(64, SMALL) * np.full(64, SMALL)
    double = np.full(64, 1e-310) * np.full(64, 1.0)
    return bool(operand.all() and result.all() and double.all())


def _products(arguments, part, parts):
    """Multiply subnormal operands, and what has a subnormal result; then wait until every part has a thread."""
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    out = carray(pointer(a.out, np.float32), (parts, 3))
    inputs = carray(pointer(a.inputs, np.float32), 4)
    out[part, 0] = inputs[0] * inputs[2]
    out[part, 1] = inputs[1] * inputs[1]
    out[part, 2] = inputs[3] * inputs[3]
    atomics.add(a.meeting, 1)
    end = atomics.ticks() + a.limit
    while atomics.load(a.meeting) < parts and atomics.ticks() < end:
        atomics.relax()


def run_products(threads):
    """Return what as many threads computed as there are parts: operands, results, and an ordinary product."""
    out = np.full((threads, 3), np.nan, np.float32)
    inputs = np.array([TINY, SMALL, 1e10, 3.0], np.float32)
    meeting = np.zeros(1, np.int64)
    fields = {"out": address(out), "inputs": address(inputs), "meeting": address(meeting)}
    limit = int(60 * workers.ticks_a_second())
    arguments = filled(ARGUMENTS, {**fields, "limit": limit})
    operation = Operation("products", kernel("test-products", _products, 3), arguments, threads)
    Program([Stage((operation,), threads, threads, 0)]).run()
    assert meeting[0] == threads
    return out


@pytest.fixture
def fresh(monkeypatch):
    """Use workers that no other test has tired."""
    found = workers.Workers(3)
    monkeypatch.setattr(workers, "_workers", found)
    yield
    found.stop()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_thread_that_runs_a_program_flushes(threads, fresh):
    assert subnormals_survive()
    before = mode()
    np.testing.assert_array_equal(run_products(threads), [[0, 0, 9]] * threads)
    assert mode() == before
    assert subnormals_survive()


def test_a_mode_that_the_caller_has_set_stays():
    before = mode()
    try:
        set_mode(before | atomics.FLUSH)
        run_products(1)
        assert mode() == before | atomics.FLUSH
    finally:
        set_mode(before)
    assert subnormals_survive()


def trainer():
    layers = [fg.Dense(160, activation="tanh"), fg.Dense(96, activation="relu"), fg.Dense(10)]
    return fg.Trainer(fg.Sequential(layers, 128), optimizer=fg.SGD(1e-4))


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((32, 128)).astype(np.float32), rng.integers(0, 10, 32)


def test_callers_in_several_threads_have_their_modes_back():
    def steps(seed):
        before, training = mode(), trainer()
        for _ in range(20):
            training.step(*batch(seed))
            training.model(batch(seed)[0])
        return mode() == before and subnormals_survive()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(steps, range(4)))


def test_the_mode_is_as_before_after_a_diagnosis():
    before, training = mode(), trainer()
    x, y = batch()
    with pytest.raises(fg.DivergenceError):
        training.step(np.full_like(x, 3e38), y)
    assert mode() == before
    assert subnormals_survive()


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself an interrupt alone")
def test_the_mode_is_as_before_after_an_error_and_an_interrupt():
    before, training = mode(), trainer()
    with pytest.raises(fg.FgError):
        training.step(np.zeros((3, 5), np.float32), np.zeros(3, np.int64))
    assert mode() == before
    x, y = batch()
    begun = threading.Event()

    def interrupt():
        begun.wait()
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()

    def step_until_interrupted():
        while True:
            training.step(x, y)
            begun.set()

    with pytest.raises(KeyboardInterrupt):
        step_until_interrupted()
    other.join()
    assert mode() == before
    assert subnormals_survive()


def test_inputs_that_are_subnormal_count_as_zero():
    training = trainer()
    x, _ = batch()
    np.testing.assert_array_equal(training.model(np.full_like(x, TINY)), training.model(np.zeros_like(x)))


def test_parameters_that_are_subnormal_count_as_zero():
    model = trainer().model
    zeros = {name: np.zeros_like(array) for name, array in model.parameters().items()}
    tiny = {name: np.full_like(array, TINY) for name, array in zeros.items()}
    x, _ = batch()
    model.load_parameters(tiny)
    found = model(x * np.float32(1e20))
    model.load_parameters(zeros)
    np.testing.assert_array_equal(found, model(x))
