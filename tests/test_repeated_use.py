"""Use again and again: fits one after another, many batch sizes, losses that change, and how callbacks hear of ends."""

import copy
import gc
import weakref

import numpy as np
import pytest
from numba import carray, from_dtype

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.kernels.compile import kernel
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.memory import address
from fgnumba.kernels.program import Operation
from fgnumba.recent import KEPT
from fgnumba.snapshot import snapshot
from tests.test_copies import bits, blobs, trainer_of


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
            alive += [weakref.ref(plan) for plan in (*trainer.plans.values(), *trainer.model._plans.values())]
            alive += [weakref.ref(plan) for plan, _ in trainer._study._plans.values()]
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


class Scaled(fg.MeanSquaredError):
    """A loss with a number in it, which its operations hold."""

    def __init__(self, scale):
        self.scale = scale

    def bind(self, device, z, outputs, targets, result, values):
        bound = super().bind(device, z, outputs, targets, result, values)
        arguments = np.array([(address(values), values.size, self.scale)], TIMES)
        return [*bound, Operation("times", kernel("times-of-tests", times, 3), arguments, keeps=(values,))]


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
    assert said[3] == "MeanSquaredError"


class Ends(fg.Callback):
    def __init__(self, at=None, do=None):
        self.heard, self.at, self.do = [], at, do

    def on_start(self, trainer, steps):
        self.trainer = trainer

    def on_step(self, step, result):
        if step == self.at:
            self.do(self)

    def ends(self, record):
        return self.at == "record" and record.step >= 2

    def on_end(self, history):
        self.heard.append(history.ended_by)


def interrupt(callback):
    raise KeyboardInterrupt


def fail(callback):
    raise ValueError("a callback's own")


@pytest.mark.parametrize(
    ("at", "do", "reason", "error"),
    [
        (None, None, "steps", None),
        ("record", None, "callback", None),
        (3, lambda callback: callback.trainer.stop(), "stop", None),
        (3, interrupt, "interrupt", KeyboardInterrupt),
        (3, fail, "error", ValueError),
    ],
)
def test_every_callback_hears_of_the_end_and_why(at, do, reason, error):
    callbacks = [Ends(), Ends(at, do), Ends()]
    fit = {"steps": 5, "batch_size": 16, "evaluate_every": 2, "callbacks": callbacks}
    trainer = trainer_of()
    if error is None:
        assert trainer.fit(blobs(), **fit).ended_by == reason
    else:
        with pytest.raises(error):
            trainer.fit(blobs(), **fit)
    assert [one.heard for one in callbacks] == [[reason]] * 3


def test_callbacks_hear_of_a_divergence():
    model = fg.Sequential([fg.Flatten(), fg.Dense(9, activation="relu"), fg.Dense(3)], (4, 3, 2))
    trainer, ends = fg.Trainer(model, optimizer=fg.SGD(1e30)), Ends()
    with pytest.raises(fg.DivergenceError):
        trainer.fit(blobs(), steps=20, batch_size=16, callbacks=[ends])
    assert ends.heard == ["divergence"]


def test_an_error_at_the_end_of_a_failed_run_hides_nothing():
    class Fails(Ends):
        def on_end(self, history):
            raise RuntimeError("at the end")

    last = Ends()
    with pytest.raises(ValueError, match="a callback's own"):
        trainer_of().fit(blobs(), steps=5, batch_size=16, callbacks=[Fails(2, fail), last])
    assert last.heard == ["error"]


def test_whoever_was_not_told_of_the_start_is_not_told_of_the_end():
    class Unready(Ends):
        def on_start(self, trainer, steps):
            raise ValueError("not ready")

    first, unready, never = Ends(), Unready(), Ends()
    with pytest.raises(ValueError, match="not ready"):
        trainer_of().fit(blobs(), steps=2, batch_size=16, callbacks=[first, unready, never])
    assert (first.heard, never.heard) == (["error"], [])


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
