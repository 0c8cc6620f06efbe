"""Copies of trainers and of objects that hold one: each works by itself; objects bound to memory are not copied."""

import copy
import gc
import multiprocessing
import pickle
import threading
import weakref
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.estimators import recipe
from fgnumba.training.callbacks import EarlyStopping
from tests.recipes import GENERAL

ESTIMATORS = tuple(GENERAL)
OPTIMIZERS = {
    "sgd": lambda: fg.SGD(1e-3),
    "momentum": lambda: fg.SGD(1e-3, momentum=0.9),
    "adam": lambda: fg.Adam(1e-3),
    "frank-wolfe": lambda: fg.FrankWolfe(20.0, 1e-3),
}


def pickled(value):
    return pickle.loads(pickle.dumps(value))


def joblibbed(value):
    joblib = pytest.importorskip("joblib")
    import io

    file = io.BytesIO()
    joblib.dump(value, file)
    file.seek(0)
    return joblib.load(file)


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": pickled, "joblib": joblibbed}


def model_of(seed=3):
    layers = [
        fg.Conv2d(5, 3, padding="same", activation="relu"),
        fg.Dropout(0.2),
        fg.Flatten(),
        fg.LayerNorm(),
        fg.Dense(7, activation="tanh"),
        fg.Dense(3),
    ]
    return fg.Sequential(layers, (4, 3, 2), seed=seed)


def batches(count, size=6, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.standard_normal((size, 4, 3, 2)).astype(np.float32), rng.integers(0, 3, size)


def trainer_of(name="weight-perturbation", optimizer="sgd", seed=1):
    return fg.Trainer(model_of(), estimator=recipe(name).make(), optimizer=OPTIMIZERS[optimizer](), seed=seed)


def trained(trainer, count, size=6, seed=0):
    return [trainer.step(x, y).loss for x, y in batches(count, size, seed)]


def bits(trainer):
    """Return all that decides the steps to come, as bytes."""
    arrays = {name: array.tobytes() for name, array in trainer.model.parameters().items()}
    state = {
        name: array.tobytes()
        for name, array in trainer.state.arrays.items()
        # Zeros are there when they are first asked for.
        if not name.startswith("gradient.") and array.any()
    }
    own = {name: parameter.array().tobytes() for name, parameter in trainer.state.parameters.items()}
    position = trainer.position
    last = None if position.last is None or position.last.last is None else position.last.last.tobytes()
    return position.steps, arrays, state, own, last and (last, position.rate)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_copy_takes_the_steps_that_the_original_takes(name, how):
    trainer = trainer_of(name, "adam")
    trained(trainer, 5)
    before = bits(trainer)
    twin = COPIES[how](trainer)
    losses = trained(twin, 4, seed=9)
    assert bits(trainer) == before
    assert trained(trainer, 4, seed=9) == losses
    assert bits(trainer) == bits(twin)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 3])
def test_of_every_optimizer_before_and_after_steps(optimizer, how, steps):
    trainer = trainer_of("control-variate", optimizer)
    trained(trainer, steps)
    twin = COPIES[how](trainer)
    assert twin.model is not trainer.model
    assert trained(twin, 3, size=5, seed=2) == trained(trainer, 3, size=5, seed=2)
    assert bits(trainer) == bits(twin)


def test_a_copy_outlives_its_original():
    trainer = trainer_of("feedback", "adam")
    trained(trainer, 3)
    twin, again = copy.deepcopy(trainer), trainer_of("feedback", "adam")
    gone = weakref.ref(trainer)
    del trainer
    gc.collect()
    assert gone() is None
    trained(again, 3)
    assert trained(twin, 3, seed=4) == trained(again, 3, seed=4)


def test_a_copy_can_take_its_last_step_back():
    trainer = trainer_of()
    trained(trainer, 3)
    x, y = next(batches(1))
    huge = np.full_like(x, 3e38)
    twin = copy.deepcopy(trainer)
    for one in (trainer, twin):
        with pytest.raises(fg.DivergenceError) as caught:
            one.step(huge, y)
        assert caught.value.kept
        assert one.steps_done == 2
    assert bits(trainer) == bits(twin)


def test_what_was_loaded_meanwhile_is_not_taken_back():
    trainer = trainer_of()
    trained(trainer, 3)
    loaded = model_of(seed=8).parameters()
    trainer.model.load_parameters(loaded)
    x, y = next(batches(1))
    with pytest.raises(fg.DivergenceError) as caught:
        trainer.step(np.full_like(x, 3e38), y)
    assert not caught.value.kept
    for name, array in trainer.model.parameters().items():
        np.testing.assert_array_equal(array, loaded[name])


@pytest.mark.parametrize("how", COPIES)
def test_numbers_that_are_not_finite_are_copied_as_they_are(how):
    trainer = trainer_of()
    for parameter in trainer.model.packed_parameters.values():
        parameter.assign(np.full(parameter.shape, np.inf, np.float32))
    for copied in (COPIES[how](trainer.model), COPIES[how](trainer).model):
        assert all(np.isposinf(array).all() for array in copied.parameters().values())


@pytest.mark.parametrize("how", COPIES)
def test_a_trainer_that_was_replayed(how, tmp_path):
    def run(**more):
        one = trainer_of()
        one.fit(blobs(), steps=4, batch_size=8, checkpoints=fg.Checkpoints(tmp_path, compact=True), **more)
        return one

    run()
    resumed = run(resume=True)
    twin = COPIES[how](resumed)
    x, y = next(batches(1))
    for one in (resumed, twin):
        with pytest.raises(fg.DivergenceError) as caught:
            one.step(np.full_like(x, 3e38), y)
        assert (caught.value.kept, one.steps_done) == (True, 3)
    assert bits(resumed) == bits(twin)


def test_copies_while_another_thread_trains():
    trainer = trainer_of("feedback", "adam")
    states, done = {0: bits(trainer)}, threading.Event()

    def train():
        for x, y in batches(2000):
            # Its steps and their record are apart: a copy may come between them.
            trainer.step(x, y)
            states[trainer.steps_done] = bits(trainer)
            if done.is_set():
                return

    thread = threading.Thread(target=train)
    thread.start()
    twins = [COPIES[how](trainer) for _ in range(10) for how in COPIES]
    done.set()
    thread.join()
    assert len({twin.steps_done for twin in twins}) > 1
    for twin in twins:
        assert bits(twin) == states[twin.steps_done]


def test_a_model_and_its_trainer_stay_together():
    trainer = trainer_of()
    trained(trainer, 2)
    pair = {"model": trainer.model, "trainer": trainer}
    for copied in (copy.deepcopy(pair), pickled(pair)):
        assert copied["trainer"].model is copied["model"]
        assert copied["model"] is not trainer.model


class Mlp(fg.Sequential):
    trainer: fg.Trainer

    def __init__(self, width):
        super().__init__([fg.Dense(width), fg.Dense(3)], 4)
        self.width, self.notes = width, ["new"]


class Counted(fg.Trainer):
    __slots__ = ("__private", "slot")

    def __init__(self, model):
        self.before = ["set", "before"]
        super().__init__(model, optimizer=fg.SGD(1e-3))
        self.calls = 0
        self.slot, self.__private = "slot", "private"

    def said(self):
        return self.before, self.slot, self.__private

    def step(self, x, y):
        self.calls += 1
        return super().step(x, y)


@pytest.mark.parametrize("how", COPIES)
def test_classes_of_ones_own(how):
    x, y = np.ones((2, 4), np.float32), np.array([0, 2])
    trainer = Counted(Mlp(5))
    trainer.step(x, y)
    twin = COPIES[how](trainer)
    assert (type(twin), type(twin.model), twin.calls, twin.model.width) == (Counted, Mlp, 1, 5)
    assert twin.said() == trainer.said()
    assert twin.step(x, y).loss == trainer.step(x, y).loss
    assert bits(twin) == bits(trainer)
    model = COPIES[how](trainer.model)
    assert (model.width, model.notes) == (5, ["new"])
    np.testing.assert_array_equal(model(x), trainer.model(x))


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "joblib"])
def test_a_model_that_holds_its_trainer(how):
    model = Mlp(5)
    model.trainer = Counted(model)
    model.trainer.step(np.ones((2, 4), np.float32), np.array([0, 2]))
    for copied in (COPIES[how](model), COPIES[how](model.trainer).model):
        assert copied.trainer.model is copied is not model
        assert bits(copied.trainer) == bits(model.trainer)


class Follower(fg.Callback):
    """Copies during a run, and keeps the copies."""

    def __init__(self, how):
        self.how, self.twins, self.trainer = how, [], None

    def on_start(self, trainer, steps):
        self.trainer = trainer
        self.twins.append(COPIES[self.how](trainer))

    def on_step(self, step, result):
        self.twins.append(COPIES[self.how](self.trainer))

    def on_record(self, record):
        self.twins.append(COPIES[self.how](self.trainer))


def blobs(n=40, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4, 3, 2)).astype(np.float32)
    return fg.datasets.Dataset("blobs", x, np.arange(n) % 3, x[:9], np.arange(9) % 3, 3)


@pytest.mark.parametrize("how", COPIES)
def test_copies_during_a_run_stand_where_it_stood(how, tmp_path):
    data, follower = blobs(), Follower(how)
    trainer = trainer_of("feedback", "adam")
    kept = fg.Checkpoints(tmp_path, every=2)
    trainer.fit(
        data, steps=5, batch_size=8, callbacks=[follower], validation=0.2, evaluate_every=2, checkpoints=kept
    )
    assert [twin.steps_done for twin in follower.twins] == [0, 1, 2, 2, 3, 4, 4, 5, 5]
    for twin in follower.twins:
        twin.fit(data, steps=6 - twin.steps_done, batch_size=8, validation=0.2)
    trainer.fit(data, steps=1, batch_size=8, validation=0.2)
    assert {repr(bits(twin)) for twin in follower.twins} == {repr(bits(trainer))}


@pytest.mark.parametrize("how", COPIES)
def test_callbacks_histories_and_checkpoints(how, tmp_path):
    data, trainer = blobs(), trainer_of("feedback", "adam")
    stopping, kept = EarlyStopping(patience=2), fg.Checkpoints(tmp_path / "a", every=2)
    history = trainer.fit(data, steps=8, batch_size=8, validation=0.2, callbacks=[stopping], checkpoints=kept)
    copied = COPIES[how]([stopping, history, kept])
    if how == "copy":
        copied = [copy.copy(one) for one in (stopping, history, kept)]
    assert copied[1].records is not history.records
    assert copied[0].state == stopping.state
    assert repr(copied[1]) == repr(history)
    assert (copied[2].saved_step, repr(copied[2].records)) == (kept.saved_step, repr(kept.records))
    again = trainer_of("feedback", "adam")
    resumed = again.fit(
        data,
        steps=8,
        batch_size=8,
        validation=0.2,
        callbacks=[copied[0]],
        checkpoints=copied[2],
        resume=True,
    )
    assert resumed.final.step == history.final.step
    assert bits(again) == bits(trainer)


def test_checkpoints_copied_while_they_are_open_hold_nothing(tmp_path):
    kept = fg.Checkpoints(tmp_path)
    with kept.opened(resume=False):
        twin = copy.deepcopy(kept)
        with pytest.raises(fg.RunError, match="another process trains"), twin.held():
            pass
        assert kept.logs
        assert not twin.logs
        kept.append("more.log", "kept\n")
    assert (tmp_path / "more.log").read_text(encoding="utf-8") == "kept\n"
    with twin.held():
        pass


def in_child(trainer):
    return trained(trainer, 3, seed=5), bits(trainer)


def test_a_spawned_process_goes_on():
    trainer = trainer_of("local-feedback", "adam")
    trained(trainer, 2)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(in_child, trainer).result()
    assert trainer.steps_done == 2
    assert found == (trained(trainer, 3, seed=5), bits(trainer))


@pytest.mark.parametrize("how", COPIES)
def test_the_baseline(how):
    def steps(trainer, seed):
        return [trainer.step(x, y) for x, y in batches(3, seed=seed)]

    trainer = reverse.ReverseTrainer(model_of(), 0.1, seed=4)
    steps(trainer, 0)
    before = trainer.model.parameters()
    twin = COPIES[how](trainer)
    losses = steps(twin, 1)
    for name, array in trainer.model.parameters().items():
        np.testing.assert_array_equal(array, before[name])
    assert steps(trainer, 1) == losses
    assert twin.steps_done == trainer.steps_done == 6


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize(
    "name", ["weight-perturbation", "control-variate", "subspace-gauss-newton", "feedback", "spsa"]
)
def test_what_is_bound_to_memory_is_refused(name, how):
    trainer = trainer_of(name, "adam")
    trained(trainer, 1)
    estimate = trainer.bind(6)
    plans = [
        *trainer.model._plans.values(),
        trainer.model.plan(6),
        reverse.ReverseTrainer(model_of(), 0.1).plan(6),
    ]
    for bound in (estimate, *plans, trainer.state, estimate.operations[0]):
        with pytest.raises(fg.ConfigError, match="is bound to addresses of memory") as caught:
            COPIES[how](bound)
        assert "\n" not in str(caught.value)
    trained(trainer, 1)


def test_a_trainer_keeps_what_it_was_made_with():
    trainer = trainer_of()
    for name in ("model", "estimator", "optimizer", "seed"):
        with pytest.raises(fg.ConfigError, match=f"{name}: a trainer keeps"):
            setattr(trainer, name, getattr(trainer, name))
