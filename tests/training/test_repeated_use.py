"""Repeated use: several calls of ``fit``, many batch sizes, losses that change, callbacks that hear of the end."""

import copy
import gc
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
from numba import carray, from_dtype

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.model.recent import KEPT
from fgnumba.training import replay_log
from fgnumba.training.state import snapshot
from tests.places import ROOT
from tests.training.test_copies import bits, blobs, trainer_of


class Batches:
    """Notes what the trainer is fed."""

    def __init__(self, trainer):
        self.seen: list[list[float]] = []
        step = trainer.step

        def noted(x, y):
            self.seen.append(x[:, 0, 0, 0].tolist())
            return step(x, y)

        trainer.step = noted


@pytest.mark.parametrize("name", ["weight-perturbation", "feedback", "control-variate"])
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_fits_one_after_another_are_one_fit(name, optimizer):
    data = blobs(50)
    whole, parts = (trainer_of(name, optimizer) for _ in range(2))
    whole.fit(data, epochs=6, batch_size=16)
    for epochs in (1, 1, 3, 1):
        parts.fit(data, epochs=epochs, batch_size=16)
    assert bits(whole) == bits(parts)


def test_fits_by_steps_go_on_in_the_midst_of_an_epoch():
    data = blobs(50)
    whole, parts = (trainer_of() for _ in range(2))
    seen = [Batches(one) for one in (whole, parts)]
    whole.fit(data, steps=11, batch_size=16)
    for steps in (1, 2, 5, 3):
        parts.fit(data, steps=steps, batch_size=16)
    assert seen[0].seen == seen[1].seen
    assert bits(whole) == bits(parts)


def test_epoch_after_epoch_sees_every_example_in_a_fresh_order():
    data = blobs(100)
    trainer = trainer_of()
    noted = Batches(trainer)
    for _ in range(20):
        trainer.fit(data, epochs=1, batch_size=64)
    assert len({tuple(batch) for batch in noted.seen}) == len(noted.seen) == 20
    assert {first for batch in noted.seen for first in batch} == set(data.x_train[:, 0, 0, 0].tolist())


def test_steps_and_fits_count_together():
    data = blobs(50)
    whole, parts = (trainer_of() for _ in range(2))
    whole.fit(data, steps=5, batch_size=16)
    batches = data.batches(16, parts.seed)
    for _ in range(3):
        parts.step(*next(batches))
    parts.fit(data, steps=2, batch_size=16)
    assert bits(whole) == bits(parts)


def test_a_run_of_a_trainer_that_had_begun_is_resumed_with_its_batches(tmp_path):
    data = blobs(50)
    whole, parts = (trainer_of() for _ in range(2))
    for one, folder, steps in ((whole, "a", (9,)), (parts, "b", (4, 9))):
        one.fit(data, steps=5, batch_size=16)
        start = copy.deepcopy(one)
        for number, count in enumerate(steps):
            one = copy.deepcopy(start) if number else one
            kept = fg.Checkpoints(tmp_path / folder, every=2)
            one.fit(data, steps=count, batch_size=16, checkpoints=kept, resume=number > 0)
        if folder == "a":
            expected = bits(one)
    assert bits(one) == expected


@pytest.mark.parametrize("name", ["weight-perturbation", "feedback", "spsa"])
def test_plans_of_many_batch_sizes_go(name):
    trainer = trainer_of(name, "adam")
    rng = np.random.default_rng(0)
    alive = []
    gc.collect()
    gc.disable()
    try:
        # Without the collector: memory goes when the plan does.
        for size in range(1, 4 * KEPT):
            x, y = rng.standard_normal((size, 4, 3, 2)).astype(np.float32), np.zeros(size, np.int64)
            trainer.step(x, y)
            trainer.estimate(x, y)
            trainer.model(x)
            alive += [
                weakref.ref(plan) for plan in (*trainer.estimates.values(), *trainer.model._plans.values())
            ]
            alive += [weakref.ref(plan) for plan, _ in trainer._study._estimates.values()]
        assert len({id(ref()) for ref in alive if ref() is not None}) <= 3 * KEPT
    finally:
        gc.enable()


TIMES = np.dtype([("values", np.int64), ("count", np.int64), ("factor", np.float64)])


def times(arguments, part, parts):
    a = carray(pointer(arguments, TIMES_TYPE), 1)[0]
    values = carray(pointer(a.values, np.float64), a.count)
    for i in range(a.count):
        values[i] *= a.factor


TIMES_TYPE = from_dtype(TIMES)


def times_of(values, factor):
    """Return the operation that multiplies values."""
    arguments = np.array([(address(values), values.size, factor)], TIMES)
    return Operation("times", kernel("times-of-tests", times, 3), arguments, keeps=(values,))


class Scaled(fg.MeanSquaredError):
    """A loss with a number in it, which its operations hold."""

    def __init__(self, scale):
        self.scale = scale

    def bind(self, device, z, outputs, targets, result, values):
        return [*super().bind(device, z, outputs, targets, result, values), times_of(values, self.scale)]


def regression():
    rng = np.random.default_rng(1)
    model = fg.Sequential([fg.Dense(3)], 4)
    return model, rng.standard_normal((5, 4)).astype(np.float32), rng.standard_normal((5, 3))


def test_losses_of_one_class_with_other_numbers():
    model, x, y = regression()
    v = fg.directions.RankOne(1)
    value, d = fg.jvp(model, fg.MeanSquaredError(), x, y, v)
    for scale in (1.0, 8.0, 0.5, 1.0):
        assert fg.jvp(model, Scaled(scale), x, y, v) == (value * scale, d * scale)
    loss = Scaled(4.0)
    assert fg.jvp(model, loss, x, y, v)[0] == 4 * value
    loss.scale = 2.0
    assert fg.jvp(model, loss, x, y, v)[0] == 2 * value


class Counting(fg.SoftmaxCrossEntropy):
    """Holds what does not matter, and says so."""

    def __init__(self):
        self.asked = 0

    @property
    def key(self):
        return Counting

    def check_targets(self, *arguments):
        self.asked += 1
        super().check_targets(*arguments)


def test_a_loss_that_says_what_matters_keeps_its_plan():
    model, x, _ = regression()
    trainer = fg.Trainer(model, loss=Counting(), optimizer=fg.SGD(1e-3))
    for _ in range(3):
        trainer.step(x, np.zeros(5, np.int64))
    assert len(trainer.estimates) == 1


def test_what_a_loss_holds_is_stated_alike_in_every_process():
    code = """
from fgnumba.objects.fingerprint import statement
from tests.training.test_repeated_use import Holding

one = Holding()
print(statement(one, one.key))
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


class Holding(fg.SoftmaxCrossEntropy):
    def __init__(self):
        self.names, self.function = {"a", "b", "c", "d", "e"}, weigh


def test_alike_losses_share_a_plan():
    model, x, y = regression()
    for loss in (fg.MeanSquaredError(), fg.MeanSquaredError(), Scaled(2.0), Scaled(2.0)):
        fg.jvp(model, loss, x, y, fg.directions.RankOne(1))
    assert len(model._plans) == 2


def test_a_loss_that_changes_between_steps():
    model, x, y = regression()
    loss = Scaled(1.0)
    # Too small a rate to move anything.
    trainer = fg.Trainer(model, loss=loss, optimizer=fg.SGD(1e-30))
    first, before = trainer.step(x, y).loss, trainer.estimate(x, y)
    loss.scale = 16.0
    trainer.steps_done = 0
    assert trainer.step(x, y).loss == 16 * first
    trainer.steps_done = 1
    for name, array in trainer.estimate(x, y).items():
        np.testing.assert_array_equal(array, 16 * before[name])
    trainer.loss = Scaled(2.0)
    assert trainer.step(x, y).loss == 2 * first


def test_a_checkpoint_knows_the_number_of_a_loss():
    model, _, _ = regression()
    losses = (Scaled(1.0), Scaled(2.0), Scaled(1.0), fg.MeanSquaredError())
    said = [snapshot(fg.Trainer(model, loss=loss, optimizer=fg.SGD(1e-3)))[0]["loss"] for loss in losses]
    assert said[0] == said[2] != said[1]
    counting = Counting()
    first = snapshot(fg.Trainer(model, loss=counting, optimizer=fg.SGD(1e-3)))[0]["loss"]
    counting.asked += 1
    assert snapshot(fg.Trainer(model, loss=counting, optimizer=fg.SGD(1e-3)))[0]["loss"] == first
    assert said[3] == "MeanSquaredError"


class Anneals(fg.Callback):
    """Changes something after each step."""

    def __init__(self, change):
        self.change = change

    def on_start(self, trainer, steps):
        self.trainer = trainer

    def on_step(self, step, result):
        self.change(self.trainer, step)


def weigh(trainer, step):
    trainer.loss.scale = 0.5**step


def ask_for_plans(trainer, step):
    for size in range(10, 11 + KEPT):
        trainer.bind(size)


def values_of(n=40):
    x = np.random.default_rng(2).standard_normal((n, 4)).astype(np.float32)
    return fg.datasets.Dataset("values", x, np.arange(n) % 3, x[:9], np.arange(9) % 3, 3)


class Weighed(fg.SoftmaxCrossEntropy):
    def __init__(self):
        self.scale = 1.0

    def bind(self, device, z, outputs, targets, result, values):
        return [*super().bind(device, z, outputs, targets, result, values), times_of(values, self.scale)]


def run_of(folder, change, **more):
    model = fg.Sequential([fg.Dense(9, activation="relu"), fg.Dense(3)], 4)
    trainer = fg.Trainer(model, loss=Weighed(), optimizer=fg.SGD(1e-2), seed=3)
    kept = fg.Checkpoints(folder, every=3, **more)
    trainer.fit(values_of(), steps=7, batch_size=8, callbacks=[Anneals(change)], checkpoints=kept)
    return trainer


@pytest.mark.parametrize("change", [weigh, ask_for_plans])
@pytest.mark.parametrize("compact", [False, True])
def test_a_log_has_the_scalars_of_the_steps_that_were_taken(change, compact, tmp_path):
    trainer = run_of(tmp_path, change, compact=compact)
    again = fg.Trainer(
        fg.Sequential(trainer.model.layers, 4), loss=Weighed(), optimizer=trainer.optimizer, seed=3
    )
    fg.replay.replay(again, replay_log.read(tmp_path / "replay.log"))
    assert bits(again)[:4] == bits(trainer)[:4]


def clip(trainer, step):
    if step == 3:
        arrays = trainer.model.parameters()
        trainer.model.load_parameters({name: array.clip(-0.1, 0.1) for name, array in arrays.items()})


def step_apart(trainer, step):
    if step == 3:
        trainer.step(np.ones((5, 4), np.float32), np.zeros(5, np.int64))


@pytest.mark.parametrize("change", [clip, step_apart])
def test_parameters_that_change_between_steps_end_a_log(change, tmp_path):
    said: list[str] = []
    run_of(tmp_path / "a", change, warn=said.append)
    (line,) = said
    assert "before step" in line
    assert line.endswith("parameters were changed or other steps taken; the run cannot be replayed")
    assert not (tmp_path / "a" / "replay.log").exists()
    with pytest.raises(fg.ConfigError, match="compact checkpoints need a run that can be replayed"):
        run_of(tmp_path / "b", change, compact=True)


def test_a_run_by_epochs_begins_with_a_whole_one():
    data = blobs(100)
    for before in ({"epochs": 1, "batch_size": 64}, {"steps": 3, "batch_size": 10}):
        trainer = trainer_of()
        trainer.fit(data, **before)
        noted = Batches(trainer)
        trainer.fit(data, epochs=1, batch_size=10)
        seen = [first for batch in noted.seen for first in batch]
        assert sorted(seen) == sorted(data.x_train[:, 0, 0, 0].tolist())


def test_a_resumption_that_is_refused_changes_nothing(tmp_path):
    data, kept = blobs(), fg.Checkpoints(tmp_path, every=2)
    trainer_of().fit(data, steps=4, batch_size=8, checkpoints=kept)
    fresh, again = trainer_of(), trainer_of()
    with pytest.raises(fg.RunError, match="its checkpoint is of step 4; the run has 2 steps"):
        again.fit(data, steps=2, batch_size=8, checkpoints=kept, resume=True)
    assert bits(again) == bits(fresh)


def test_a_stop_before_a_fit_that_is_refused_is_forgotten():
    trainer = trainer_of()
    trainer.stop()
    with pytest.raises(fg.ConfigError):
        trainer.fit(blobs(), steps=0)
    assert not trainer.fit(blobs(), steps=3, batch_size=16).stopped


def test_an_example_beyond_float32_takes_no_step_back():
    model, x, _ = regression()
    trainer = fg.Trainer(model, optimizer=fg.SGD(1e-2))
    trainer.step(x, np.zeros(5, np.int64))
    before, wrong = bits(trainer), x.astype(np.float64)
    wrong[1, 2] = 1e39
    with pytest.raises(fg.DivergenceError, match=r"at \(1, 2\); the last good parameters are kept$"):
        trainer.step(wrong, np.zeros(5, np.int64))
    assert bits(trainer) == before


def test_the_baselines_steps_are_not_taken_back_by_another():
    model, x, _ = regression()
    y = np.zeros(5, np.int64)
    trainer = fg.Trainer(model, optimizer=fg.SGD(1e-2))
    trainer.step(x, y)
    reverse.ReverseTrainer(model, 0.1).step(x, y)
    before = model.parameters()
    # All terms of this output have the same sign, so that it overflows in whatever order they are added.
    huge = 3e38 * np.sign(before["0.weight"][:, 1])
    with pytest.raises(fg.DivergenceError) as caught:
        trainer.step(np.broadcast_to(huge, x.shape), y)
    assert not caught.value.kept
    assert all(np.array_equal(array, before[name]) for name, array in model.parameters().items())


def test_plans_of_the_baseline_go_too():
    trainer, alive = reverse.ReverseTrainer(trainer_of().model, 0.1), []
    gc.collect()
    gc.disable()
    try:
        for size in range(1, 3 * KEPT):
            trainer.step(np.ones((size, 4, 3, 2), np.float32), np.zeros(size, np.int64))
            alive.append(weakref.ref(trainer.plan(size)))
        assert sum(ref() is not None for ref in alive) <= KEPT
    finally:
        gc.enable()
