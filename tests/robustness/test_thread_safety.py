"""Threads of one process: models trained at the same time have the bits of models trained alone."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.estimators import recipe
from fgnumba.kernels.machine import compile as compilation
from tests.places import ROOT

ESTIMATORS = ("weight-perturbation", "projected", "activity", "feedback", "local-feedback", "spsa")
STEPS = 8


def perceptron(seed=1):
    # Large enough to be shared among threads.
    layers = [fg.Dense(160, activation="relu"), fg.Dense(96, activation="relu"), fg.Dense(10)]
    return fg.Sequential(layers, 128, seed=seed)


def convolutional(seed=1):
    layers = [
        fg.Conv2d(16, 3, padding="same", activation="relu"),
        fg.MaxPool2d(2),
        fg.Flatten(),
        fg.Dense(10),
    ]
    return fg.Sequential(layers, (8, 16, 1), seed=seed)


def batches(model, count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.standard_normal((32, *model.input_shape)).astype(np.float32), rng.integers(0, 10, 32)


def trainer_of(model, name, seed):
    return fg.Trainer(model, estimator=recipe(name).make(), optimizer=fg.Adam(1e-3), seed=seed)


def trained(make, name, seed, steps=STEPS):
    """Return losses and parameters, as bytes."""
    model = make(seed)
    trainer = trainer_of(model, name, seed)
    losses = [trainer.step(x, y).loss for x, y in batches(model, steps, seed)]
    return [np.array(losses).tobytes(), *(array.tobytes() for array in model.parameters().values())]


def at_once(*tasks):
    """Run tasks in threads that begin together, and return what they return."""
    barrier = threading.Barrier(len(tasks), timeout=60)

    def run(task):
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(run, task) for task in tasks]]


@pytest.mark.parametrize("make", [perceptron, convolutional])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_two_models_at_once_are_each_as_alone(make, name):
    alone = [trained(make, name, seed) for seed in (1, 2)]
    for _ in range(2):
        assert at_once(*(lambda seed=seed: trained(make, name, seed) for seed in (1, 2))) == alone


def test_inference_beside_training():
    model, other = perceptron(), convolutional(5)
    x, _ = next(batches(model, 1, 7))
    expected, alone = model(x).tobytes(), trained(convolutional, "weight-perturbation", 5, 30)
    done = threading.Event()

    def infer():
        found = {model(x).tobytes()}
        while not done.is_set():
            found.add(model(x).tobytes())
        return found

    def train():
        try:
            return trained(lambda _: other, "weight-perturbation", 5, 30)
        finally:
            done.set()

    assert at_once(infer, train) == [{expected}, alone]


@pytest.mark.parametrize("names", [("weight-perturbation", "spsa"), ("activity", "control-variate")])
def test_two_trainers_of_a_model_take_turns(names):
    model, order = perceptron(), []
    trainers = [trainer_of(model, name, seed) for seed, name in enumerate(names)]

    def steps(k):
        plan = trainers[k].plan(32)
        run = plan.run

        def noted(x, targets):
            order.append(k)
            return run(x, targets)

        plan.run = noted
        return [trainers[k].step(x, y).loss for x, y in batches(model, STEPS, k)]

    found = at_once(lambda: steps(0), lambda: steps(1))
    again = perceptron()
    trainers = [trainer_of(again, name, seed) for seed, name in enumerate(names)]
    data = [batches(again, STEPS, k) for k in range(2)]
    losses: list[list[float]] = [[], []]
    for k in order:
        losses[k].append(trainers[k].step(*next(data[k])).loss)
    assert found == losses
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, again.parameters()[name])


def test_estimates_of_one_model_at_once_leave_it_as_it_is():
    model = perceptron()
    x, y = next(batches(model, 1, 3))
    before = model.parameters()
    trainers = [trainer_of(model, name, 3) for name in ("spsa", "weight-perturbation")]

    def estimates(trainer):
        return [
            {name: array.tobytes() for name, array in trainer.estimate(x, y).items()} for _ in range(STEPS)
        ]

    alone = [estimates(trainer) for trainer in trainers]
    assert at_once(*(lambda trainer=trainer: estimates(trainer) for trainer in trainers)) == alone
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])


TOGETHER = """
import sys
from tests.robustness.test_thread_safety import at_once, perceptron, trained
# Threads take turns as often as they can.
sys.setswitchinterval(1e-6)
found = at_once(*[lambda: trained(perceptron, "weight-perturbation", 1)] * {threads})
assert all(one == found[0] for one in found)
assert found[0] == trained(perceptron, "weight-perturbation", 1)
"""


def together(threads, **environment):
    done = subprocess.run(
        [sys.executable, "-c", TOGETHER.format(threads=threads)],
        cwd=ROOT,
        env={
            **os.environ,
            "FGNUMBA_DEVICE": "cpu",
            "NUMBA_NUM_THREADS": "2",
            "FGNUMBA_THREADS": "2",
            **environment,
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_three_callers_share_two_lanes():
    together(3)


def test_a_kernel_that_two_threads_ask_for_is_compiled_once(monkeypatch, tmp_path):
    monkeypatch.setenv("FGNUMBA_CACHE_DIR", str(tmp_path))
    callbacks, others = [], []

    class Counted(compilation.CFunc):
        def __init__(self, *arguments):
            callbacks.append(self)
            super().__init__(*arguments)

    def nothing(a, b):
        pass

    def ask():
        return compilation.kernel("asked-for-twice", nothing, 2)

    def ask_meanwhile(name):
        thread = threading.Thread(target=lambda: found.append(ask()))
        others.append(thread)
        thread.start()
        # It can only go on when this one is done; without a lock, it makes a callback now.
        thread.join(0.3)

    found: list[int] = []
    monkeypatch.setattr(compilation, "CFunc", Counted)
    monkeypatch.delitem(compilation._compiled, "asked-for-twice", raising=False)
    stop = compilation.on_compile(ask_meanwhile)
    try:
        found.append(ask())
    finally:
        stop()
        for thread in others:
            thread.join()
    assert len(callbacks) == len(others) == 1
    assert found[0] == found[1]


def test_threads_that_compile_the_same_kernels_at_once(tmp_path):
    together(4, FGNUMBA_CACHE_DIR=str(tmp_path))
    assert all(path.suffix == ".bin" or path.match("tile-*.json") for path in tmp_path.iterdir())
