"""Child processes, forked and spawned: they train like their parent, whatever its threads were doing."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.places import ROOT
from tests.robustness.test_thread_safety import batches, convolutional, perceptron, trained, trainer_of

forks = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="forking is for Linux")

IN_CHILD = """
import os
import pathlib
import pickle
import signal
import threading
from fgnumba.kernels.machine import compile as compilation
from tests.robustness.test_thread_safety import batches, convolutional, perceptron, trained, trainer_of


def in_child(work):
    # Where a lock is held for ever, the child is ended by an alarm.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(work(), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child's exit status is {os.waitstatus_to_exitcode(status)}"
    return pickle.loads(content)


def work():
    return [trained(make, name, 1) for make in (perceptron, convolutional) for name in ("projected", "feedback")]

"""

BEFORE_AND_AFTER = """
before = in_child(work)
parent = work()
assert before == parent == in_child(work) == in_child(lambda: in_child(work))


def helpers():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fgnumba-")]


# A child has none of its parent's workers, and begins its own.
assert helpers() == ["fgnumba-1"]
assert in_child(lambda: (helpers(), work() == parent, helpers())) == ([], True, ["fgnumba-1"])

model = perceptron()
trainer = trainer_of(model, "weight-perturbation", 1)
*first, (x, y) = batches(model, 4, 1)
for batch in first:
    trainer.step(*batch)
step = lambda: (trainer.step(x, y).loss, [array.tobytes() for array in model.parameters().values()])
assert in_child(step) == step()
"""

WITH_LOCKS_HELD = """
model = perceptron()
x, y = next(batches(model, 1, 1))
expected = model(x).tobytes(), trained(convolutional, "activity", 1)
# An empty cache from here on: what is asked for is compiled.
os.environ["FGNUMBA_CACHE_DIR"] = str(pathlib.Path(__file__).parent / "cache")
compiling, forked, held = threading.Event(), threading.Event(), threading.Event()


def hold():
    with model.lock:
        held.set()
        forked.wait()


def nothing(a):
    pass


def compile_slowly(name):
    compiling.set()
    # The fork is tried meanwhile.
    forked.wait(0.5)


def compile_one():
    compilation.kernel("compiled-during-a-fork", nothing, 1)


stop = compilation.on_compile(compile_slowly)
others = [threading.Thread(target=hold), threading.Thread(target=compile_one)]
for thread in others:
    thread.start()
held.wait()
compiling.wait()


def work_with_both():
    stop()
    address = compilation.kernel("compiled-in-a-child", nothing, 1)
    return address != 0, (model(x).tobytes(), trained(convolutional, "activity", 1))


assert in_child(work_with_both) == (True, expected)
forked.set()
for thread in others:
    thread.join()
"""


def run(folder, script, **environment):
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, path],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NUMBA_NUM_THREADS": "2",
            "FGNUMBA_THREADS": "2",
            **environment,
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        # A child that hangs hangs for ever.
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@forks
def test_a_forked_child_trains_before_and_after_its_parent(tmp_path):
    run(tmp_path, IN_CHILD + BEFORE_AND_AFTER)


@forks
def test_a_forked_child_finds_no_lock_held(tmp_path):
    run(tmp_path, IN_CHILD + WITH_LOCKS_HELD)


POOL = """
import multiprocessing
from tests.robustness.test_thread_safety import perceptron, trained

parent = trained(perceptron, "weight-perturbation", 1)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.starmap(trained, [(perceptron, "weight-perturbation", 1)] * 4) == [parent] * 4
"""


@forks
def test_a_pool_of_forked_workers(tmp_path):
    run(tmp_path, POOL)


def steps(model, trainer_seed):
    trainer = trainer_of(model, "weight-perturbation", trainer_seed)
    losses = [trainer.step(x, y).loss for x, y in batches(model, 3, trainer_seed)]
    return losses, [array.tobytes() for array in model.parameters().values()]


def test_a_spawned_child_goes_on_with_a_model_of_its_parent():
    model = perceptron()
    steps(model, 3)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(steps, model, 4)
        fresh = pool.submit(trained, convolutional, "activity", 1)
        assert fresh.result() == trained(convolutional, "activity", 1)
        assert found.result() == steps(model, 4)
