"""The trainer: steps against their formula, reproducibility, fit, divergence."""

import subprocess
import sys

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.emit import vector
from fgnumba.kernels.machine.threads import thread_count
from fgnumba.optimizers import schedules
from tests import tolerances

DIRECTIONS = ("rank1", "rademacher", "gaussian")


def setup(seed=0, **optimizer):
    model = fg.Sequential([fg.Dense(13, activation="relu"), fg.Dense(5)], 11, seed=seed)
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((9, 11), np.float32), rng.integers(0, 5, 9)
    return model, x, y


def small_dataset(n=50, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, 6)) * 3
    y = np.arange(n + 30) % classes
    x = (centres[y] + rng.standard_normal((n + 30, 6))).astype(np.float32)
    return fg.datasets.Dataset("blobs", x[:n], y[:n], x[n:], y[n:], classes)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_follow_the_mean_forward_gradient(direction, count, momentum):
    model, x, y = setup()
    rates = [0.01, 0.005, 0.0025]
    trainer = fg.Trainer(
        model,
        estimator=fg.WeightPerturbation(direction, count),
        optimizer=fg.SGD(lambda step: rates[step], momentum=momentum),
        seed=42,
    )
    loss = fg.SoftmaxCrossEntropy()
    kind = fg.directions.BY_NAME[direction]
    moment = {name: np.zeros(array.shape) for name, array in model.parameters().items()}
    for step, rate in enumerate(rates):
        before = model.parameters()
        gradients, derivatives = [], []
        for index in range(count):
            v = kind(seed=42, step=step, index=index)
            value, d = fg.jvp(model, loss, x, y, v)
            derivatives.append(d)
            gradients.append({name: d * array.astype(float) for name, array in v.materialize(model).items()})
        result = trainer.step(x, y)
        assert result.loss == value
        np.testing.assert_array_equal(np.ravel(result.directional_derivative), derivatives)
        for name, array in model.parameters().items():
            moment[name] = momentum * moment[name] + np.mean([g[name] for g in gradients], axis=0)
            change = rate * moment[name]
            # Relative to the largest of parameter and change.
            scale = np.abs(before[name]).max() + np.abs(change).max() * count
            tolerances.updates(scale).check(array, before[name] - change, name)


def test_one_derivative_is_a_number_and_several_an_array():
    model, x, y = setup()
    one = fg.Trainer(model, optimizer=fg.SGD(1e-4)).step(x, y)
    assert isinstance(one.directional_derivative, float)
    four = fg.Trainer(model, estimator=fg.WeightPerturbation(directions=4), optimizer=fg.SGD(1e-4)).step(x, y)
    assert np.shape(four.directional_derivative) == (4,)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_runs_alike_are_bit_identical_and_seeds_differ(direction):
    def run(seed):
        model, x, y = setup()
        trainer = fg.Trainer(
            model, estimator=fg.WeightPerturbation(direction), optimizer=fg.SGD(1e-3), seed=seed
        )
        losses = [trainer.step(x, y).loss for _ in range(5)]
        return losses, model.parameters()

    (losses, parameters), (again, same), (_, other) = run(1), run(1), run(2)
    assert losses == again
    for name, array in parameters.items():
        np.testing.assert_array_equal(array, same[name])
        assert not np.array_equal(array, other[name])


RUN = """
import hashlib, numpy as np, fgnumba as fg
model = fg.Sequential([fg.Dense(257, activation="gelu"), fg.Dense(131), fg.Dense(7)], 301)
rng = np.random.default_rng(0)
x, y = rng.standard_normal((67, 301), np.float32), rng.integers(0, 7, 67)
trainer = fg.Trainer(model, estimator=fg.WeightPerturbation("rademacher", 2), optimizer=fg.SGD(1e-5))
for _ in range(3):
    trainer.step(x, y)
print(hashlib.sha256(b"".join(a.tobytes() for a in model.parameters().values())).hexdigest())
"""


@pytest.mark.skipif(thread_count() < 2, reason="this process may use one processor alone")
def test_training_is_bit_identical_for_any_number_of_threads(monkeypatch):
    digests = set()
    for threads in ("1", "2"):
        monkeypatch.setenv("FGNUMBA_THREADS", threads)
        done = subprocess.run(
            [sys.executable, "-c", RUN], capture_output=True, text=True, encoding="utf-8", check=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("name", vector.executable())
def test_training_runs_on_every_instruction_set(name, monkeypatch):
    model, x, y = setup()
    widest = np.array(fg.Trainer(model, optimizer=fg.SGD(1e-3)).step(x, y), float)
    monkeypatch.setenv("FGNUMBA_VECTOR", name)
    model, x, y = setup()
    found = np.array(fg.Trainer(model, optimizer=fg.SGD(1e-3)).step(x, y), float)
    # Same directions; sums of at most 13 products round differently where multiply-adds do not fuse.
    tolerances.MODEL_LOSS.check(found, widest)


def test_fit_learns_and_records():
    data = small_dataset()
    model = fg.Sequential([fg.Dense(3)], 6)
    trainer = fg.Trainer(
        model, estimator=fg.WeightPerturbation(directions=8), optimizer=fg.SGD(schedules.Cosine(0.05, 600))
    )
    history = trainer.fit(data, steps=600, batch_size=16, evaluate_every=250)
    assert [record.step for record in history.records] == [250, 500, 600]
    assert [record.epoch for record in history.records] == [250 / 3, 500 / 3, 200.0]
    assert history.final.test_accuracy > 0.9
    assert history.final.loss < 0.5 * np.log(3)
    evaluation = fg.evaluate(model, data.x_test, data.y_test)
    assert (evaluation.accuracy, evaluation.loss) == (history.final.test_accuracy, history.final.test_loss)
    assert evaluation.n == 30
    assert trainer.steps_done == 600


def test_callbacks_hear_everything_in_order():
    class Listener(fg.Callback):
        def __init__(self):
            self.heard = []

        def on_start(self, trainer, steps):
            self.heard.append(("start", steps))

        def on_step(self, step, result):
            self.heard.append(("step", step))

        def on_record(self, record):
            self.heard.append(("record", record.step))

        def on_end(self, history):
            self.heard.append(("end", len(history.records)))

    listener = Listener()
    trainer = fg.Trainer(fg.Sequential([fg.Dense(3)], 6), optimizer=fg.SGD(1e-3))
    trainer.fit(small_dataset(), epochs=2, batch_size=25, callbacks=[fg.Callback(), listener])
    assert listener.heard == [
        *(("start", 4), ("step", 1), ("step", 2), ("record", 2)),
        *(("step", 3), ("step", 4), ("record", 4), ("end", 2)),
    ]


def test_a_batch_larger_than_the_data_is_all_of_it():
    trainer = fg.Trainer(fg.Sequential([fg.Dense(3)], 6), optimizer=fg.SGD(1e-3))
    assert trainer.fit(small_dataset(n=10), epochs=3, batch_size=64).final.step == 3


def test_an_epoch_sees_every_example_once_in_a_fresh_order():
    data = small_dataset(n=40)
    batches = data.batches(10, seed=3)
    epochs = [np.concatenate([next(batches)[0].copy() for _ in range(4)]) for _ in range(2)]
    for epoch in epochs:
        assert {row.tobytes() for row in epoch} == {row.tobytes() for row in data.x_train}
    assert not np.array_equal(epochs[0], epochs[1])
    for first in (0, 3, 4, 6):
        x, y = next(data.batches(10, seed=3, first=first))
        np.testing.assert_array_equal(x, np.concatenate(epochs)[first * 10 : first * 10 + 10])
        assert len(y) == 10


def diverging(momentum):
    model = fg.Sequential([fg.Dense(4)], 6, seed=1)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 6), np.float32), rng.standard_normal((8, 4), np.float32)
    trainer = fg.Trainer(model, loss=fg.MeanSquaredError(), optimizer=fg.SGD(3.0, momentum=momentum), seed=2)
    return model, trainer, x, y


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_divergence_keeps_the_last_good_parameters(momentum):
    model, trainer, x, y = diverging(momentum)
    losses, points = [], [model.parameters()]
    message = ""
    while not message:
        try:
            losses.append(trainer.step(x, y).loss)
            points.append(model.parameters())
        except fg.DivergenceError as error:
            message = str(error)
    assert np.isfinite(losses).all()
    assert message.startswith(f"step {len(losses)}: ")
    assert "learning rate 3;" in message
    assert "try a learning rate of 0.3 or less" in message
    assert "\n" not in message
    # Roundings decide which of two overflows comes first: the loss, whose step before is taken back, or an update,
    # which is not taken.
    if "update is too large" in message:
        for name, array in model.parameters().items():
            np.testing.assert_array_equal(array, points[-1][name])
        return
    assert "the loss or its derivative is not finite" in message
    errors = []
    for name, array in model.parameters().items():
        bound = tolerances.taken_back(points[-2][name], points[-1][name])
        bound.check(array, points[-2][name], name)
        errors.append(bound.absolute)
    # An output is wrong by as much times its inputs, and the loss by twice that over an output's size.
    outputs = model(x).astype(float)
    share = 2 * max(errors) * (np.abs(x).sum(axis=1).max() + 1) / np.sqrt(losses[-1])
    tolerances.Within(share).check(fg.MeanSquaredError().value(outputs, y), losses[-1])


def test_an_update_that_overflows_is_not_taken():
    model, x, y = setup()
    before = model.parameters()
    trainer = fg.Trainer(model, optimizer=fg.SGD(1e39))
    with pytest.raises(fg.DivergenceError, match="step 0: the update is too large"):
        trainer.step(x, y)
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x[:, :-1], y), fg.ShapeError, r"x has shape \(9, 10\)"),
        (lambda x, y: (x, y[:-1]), fg.ShapeError, r"targets have shape \(8,\); \(9,\)"),
        (lambda x, y: (x, y.astype(float)), fg.DtypeError, "targets have dtype float64; integers"),
        (
            lambda x, y: (x, np.where(y == y[3], 5, y)),
            fg.DatasetError,
            r"targets\[\d\] is 5; classes are 0 to 4",
        ),
        (lambda x, y: (x, y - 5), fg.DatasetError, r"targets\[0\] is -\d; classes"),
        (lambda x, y: (x * np.float32(np.nan), y), fg.DatasetError, r"x is not finite at \(0, 0\)"),
    ],
)
def test_bad_batches_change_nothing(change, error, message):
    model, x, y = setup()
    trainer = fg.Trainer(model, optimizer=fg.SGD(1e-3))
    trainer.step(x, y)
    before = model.parameters()
    with pytest.raises(error, match=message):
        trainer.step(*change(x, y))
    assert trainer.steps_done == 1
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epochs": 1, "steps": 1}, fg.ConfigError, "epochs and steps are both given"),
        ({"epochs": 0}, fg.ConfigError, "epochs is 0"),
        ({"steps": 2.5}, fg.ConfigError, "steps is 2.5"),
        ({"steps": 1, "batch_size": True}, fg.ConfigError, "batch_size is True"),
        ({"steps": 1, "evaluate_every": -1}, fg.ConfigError, "evaluate_every is -1"),
    ],
)
def test_runs_that_cannot_be(arguments, error, message):
    trainer = fg.Trainer(fg.Sequential([fg.Dense(3)], 6), optimizer=fg.SGD(1e-3))
    with pytest.raises(error, match=message):
        trainer.fit(small_dataset(), **arguments)


def test_data_that_do_not_fit_the_model():
    with pytest.raises(fg.ShapeError, match=r"examples have shape \(6,\); the model takes \(5,\)"):
        fg.Trainer(fg.Sequential([fg.Dense(3)], 5), optimizer=fg.SGD(1e-3)).fit(small_dataset(), steps=1)
    with pytest.raises(fg.ShapeError, match="3 classes; the model has 2 outputs"):
        fg.Trainer(fg.Sequential([fg.Dense(2)], 6), optimizer=fg.SGD(1e-3)).fit(small_dataset(), steps=1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: fg.SGD(0.0), "learning_rate is 0.0"),
        (lambda: fg.SGD(float("nan")), "learning_rate is nan"),
        (lambda: fg.SGD(0.1, decay=-1), "decay is -1"),
        (lambda: fg.SGD(0.1, momentum=1.0), "momentum is 1.0; a finite number 0 or above and below 1"),
        (lambda: fg.SGD(schedules.Constant(0.1), decay=0.1), "beside a schedule"),
        (lambda: fg.SGD(lambda step: -1.0).rate(7), "learning rate at step 7 is -1.0"),
        (lambda: fg.WeightPerturbation("rank2"), "did you mean 'rank1'"),
        (lambda: fg.WeightPerturbation(directions=0), "directions is 0"),
        (lambda: fg.directions.RankOne(seed=2**64), "seed is"),
        (lambda: fg.directions.RankOne(seed=0, step=2**32), "step is"),
        (lambda: fg.directions.RankOne(seed=0, index=2**20), "index is"),
    ],
)
def test_settings_that_cannot_be(build, message):
    with pytest.raises(fg.ConfigError, match=message):
        build()


def test_a_step_of_another_batch_size_is_taken_back():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 6), np.float32), rng.integers(0, 3, 64)
    model = fg.Sequential([fg.Dense(8, activation="relu"), fg.Dense(3)], 6)
    trainer = fg.Trainer(model, optimizer=fg.SGD(lambda step: 1e30 if step == 2 else 1e-3))
    trainer.step(x[:32], y[:32])
    trainer.step(x, y)
    before = model.parameters()
    trainer.step(x, y)
    after = model.parameters()
    with pytest.raises(fg.DivergenceError) as raised:
        trainer.step(x[:32], y[:32])
    assert raised.value.kept
    for name, array in model.parameters().items():
        # To rounding of the step, not of θ.
        tolerances.taken_back(before[name], after[name]).check(array, before[name], name)


def test_estimates_leave_the_parameters_where_they_are():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((9, 6), np.float32), rng.integers(0, 3, 9)
    for estimator in (fg.SPSA(directions=3), fg.HybridDifferences(), fg.ActivityPerturbation()):
        model = fg.Sequential([fg.Dense(8, activation="relu"), fg.Dense(3)], 6)
        trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(0.1))
        before = model.parameters()
        for _ in range(5):
            trainer.estimate(x, y)
        for name, array in model.parameters().items():
            np.testing.assert_array_equal(array, before[name])


def test_a_loss_above_a_multiple_of_the_first_ends_the_run():
    data = small_dataset()
    rates = fg.SGD(lambda step: 1e-4 if step < 12 else 10.0)
    model = fg.Sequential([fg.Dense(8, activation="relu"), fg.Dense(3)], data.input_shape, seed=1)
    trainer = fg.Trainer(model, optimizer=rates, seed=0)
    kept: list[dict[str, np.ndarray]] = []

    class Keep(fg.Callback):
        def on_record(self, record):
            kept.append(model.parameters())

    with pytest.raises(
        fg.DivergenceError, match=r"the loss \S+ is above 3 times \S+, that of the first step"
    ) as caught:
        trainer.fit(data, steps=60, batch_size=25, evaluate_every=10, callbacks=[Keep()], stop_above=3)
    assert str(caught.value).endswith("the parameters after step 10 are restored")
    assert caught.value.kept
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, kept[0][name])
    with pytest.raises(fg.ConfigError, match="stop_above is 0"):
        trainer.fit(data, steps=1, stop_above=0)


def test_a_run_that_is_stopped_ends_after_its_step():
    data, heard = small_dataset(), []

    class Stop(fg.Callback):
        def on_start(self, trainer, steps):
            self.trainer = trainer

        def on_step(self, step, result):
            heard.append(step)
            if step == 4:
                self.trainer.stop()

        def on_end(self, history):
            heard.append(history.ended_by)

    model = fg.Sequential([fg.Dense(3)], data.input_shape)
    trainer = fg.Trainer(model, optimizer=fg.SGD(1e-3))
    assert trainer.fit(data, steps=10, batch_size=25, callbacks=[Stop()]).stopped
    assert heard == [1, 2, 3, 4, "stop"]
    assert not trainer.fit(data, steps=2, batch_size=25).stopped
    assert trainer.steps_done == 6
