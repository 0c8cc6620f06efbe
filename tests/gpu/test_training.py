"""Models on a GPU compute and train as those on the CPU do, with and without graphs, one step or many at once."""

import copy

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import DivergenceError
from fgnumba.estimators import recipe
from fgnumba.estimators.weight import WeightPerturbation
from fgnumba.estimators.zeroth import Differences
from fgnumba.kernels.devices.gpu import Gpu
from tests import tolerances

RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((6, 3, 3, 1)).astype(np.float32), RNG.integers(0, 4, 6)


@pytest.fixture
def device(driver):
    return Gpu(driver)


def perceptron(device):
    layers = [fg.Flatten(), fg.Dense(9, activation="tanh"), fg.Dense(4)]
    return fg.Sequential(layers, input_shape=(3, 3, 1), seed=1, device=device)


def rectified(device):
    layers = [fg.Flatten(), fg.Dense(9, activation="relu"), fg.Dense(7, activation="relu"), fg.Dense(4)]
    return fg.Sequential(layers, input_shape=(3, 3, 1), seed=1, device=device)


def convolutional(device):
    nodes = [
        fg.Node("stem", fg.Conv2d(4, 3, padding="same", activation="relu")),
        fg.Node("norm", fg.GroupNorm(2)),
        fg.Node("body", fg.Conv2d(4, 1, groups=2, activation="tanh")),
        fg.Node("sum", fg.Add(activation="relu"), ("norm", "body")),
        fg.Node("pool", fg.MaxPool2d(2)),
        fg.Node("drop", fg.Dropout(0.2)),
        fg.Node("flat", fg.Flatten()),
        fg.Node("head", fg.Dense(4)),
    ]
    return fg.Graph(nodes, input_shape=(3, 3, 1), seed=1, device=device)


def trained(network, device, estimator, optimizer, steps=3):
    """Return the trainer after some steps, and their results."""
    trainer = fg.Trainer(network(device), estimator=estimator, optimizer=optimizer, seed=3)
    return trainer, [trainer.step(X, Y) for _ in range(steps)]


def check_alike(network, device, estimator, optimizer):
    (one, found), (other, expected) = (
        trained(network, where, estimator, optimizer) for where in (device, "cpu")
    )
    derivatives, parameters = tolerances.GPU_DERIVATIVES, tolerances.GPU_TRAINING
    if isinstance(estimator, Differences):
        errors = [tolerances.difference(estimator.epsilon, b.loss, len(X)) for b in expected]
        derivatives = tolerances.Within(absolute=derivatives.absolute + max(errors))
        parameters = tolerances.adam_after_differences(
            optimizer.learning_rate, errors, [b.directional_derivative for b in expected]
        )
    for a, b in zip(found, expected, strict=True):
        tolerances.GPU_TRAINING.check(a.loss, b.loss)
        derivatives.check(a.directional_derivative, b.directional_derivative)
    reference = other.model.parameters()
    for name, array in one.model.parameters().items():
        parameters.check(array, reference[name], name)


WEIGHT = [
    (WeightPerturbation(), fg.SGD(1e-3)),
    (WeightPerturbation("gaussian", 3), fg.SGD(1e-3, momentum=0.9)),
    (WeightPerturbation("orthogonal", 2), fg.SGD(1e-3, momentum=0.9, nesterov=True, weight_decay=0.1)),
    (WeightPerturbation("rademacher", 4, combine="projected", control=0.5), fg.Adam(1e-2, clip_norm=1.0)),
    (WeightPerturbation("rank1", 2, clip=0.1), fg.FrankWolfe(radius=5.0)),
]


@pytest.mark.parametrize(("estimator", "optimizer"), WEIGHT, ids=lambda value: type(value).__name__)
def test_weight_perturbation(device, estimator, optimizer):
    check_alike(perceptron, device, estimator, optimizer)


@pytest.mark.parametrize(
    "name",
    ["activity", "activity-layerwise-feedback", "feedback", "fdfa", "local-feedback", "spsa", "coordinates"],
)
def test_other_estimators(device, name):
    check_alike(rectified, device, recipe(name).build(name, None, None), fg.Adam(1e-2))


def test_gradients_go_by_an_array_of_their_own_where_the_cpu_adds_them_at_once(device):
    check_alike(rectified, device, recipe("feedback").build("feedback", None, None), fg.SGD(1e-2))


@pytest.mark.parametrize("name", ["weight-perturbation", "feedback"])
def test_a_graph_of_convolutions(device, name):
    estimator = recipe(name).build(name, None, None)
    check_alike(convolutional, device, estimator, fg.SGD(1e-3))


def test_derivatives_and_estimates(device):
    loss, v = fg.SoftmaxCrossEntropy(), fg.directions.Gaussian(seed=4, step=2)
    one, other = perceptron(device), perceptron("cpu")
    tolerances.GPU_TRAINING.check(one(X), other(X))
    tolerances.GPU_JVP.check(fg.jvp(one, loss, X, Y, v), fg.jvp(other, loss, X, Y, v))
    explicit = other.parameters()
    tolerances.GPU_JVP.check(fg.jvp(one, loss, X, Y, explicit), fg.jvp(other, loss, X, Y, explicit))
    drawn = v.materialize(other)
    for name, array in v.materialize(one).items():
        tolerances.GAUSSIAN_ON_A_GPU.check(array, drawn[name], name)
    found, expected = (
        fg.Trainer(model, optimizer=fg.SGD(0.1), seed=7).estimate(X, Y) for model in (one, other)
    )
    for name, array in found.items():
        tolerances.GPU_TRAINING.check(array, expected[name], name)


def test_parameters_are_taken_and_given(device):
    model = convolutional(device)
    other = {name: array + 1 for name, array in model.parameters().items()}
    model.load_parameters(other)
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, other[name])


@pytest.mark.parametrize("name", ["weight-perturbation", "feedback"])
def test_captured_steps_are_those_that_are_not_bit_for_bit(driver, name):
    estimator = recipe(name).build(name, None, None)
    captured, launched = (
        trained(rectified, Gpu(driver, graph=graph), estimator, fg.Adam(1e-2), steps=4)
        for graph in (True, False)
    )
    assert captured[1] == launched[1]
    expected = launched[0].model.parameters()
    for array_name, array in captured[0].model.parameters().items():
        np.testing.assert_array_equal(array, expected[array_name])


def test_capturing_that_fails_says_what_to_do(device, monkeypatch):
    trainer, _ = trained(perceptron, device, None, fg.SGD(1e-3), steps=1)

    def fail(work):
        raise fg.DeviceError("device: the GPU failed: operation not permitted")

    monkeypatch.setattr(device.driver, "capture", fail)
    with pytest.raises(fg.DeviceError, match="while a graph was captured: graph=False runs without"):
        trainer.step(X, Y)


def blobs():
    rng = np.random.default_rng(1)
    return Dataset(
        "blobs",
        rng.standard_normal((22, 5)).astype(np.float32),
        rng.integers(0, 3, 22),
        rng.standard_normal((7, 5)).astype(np.float32),
        rng.integers(0, 3, 7),
        3,
    )


def small(device):
    return fg.Sequential([fg.Dense(6, activation="relu"), fg.Dense(3)], input_shape=5, seed=1, device=device)


class Steps(fg.Callback):
    """Notes every step's result."""

    def __init__(self):
        self.results = []

    def on_step(self, step, result):
        self.results.append((step, result))


@pytest.mark.parametrize("name", ["weight-perturbation", "feedback"])
def test_steps_by_the_dozen_are_those_one_by_one_bit_for_bit(device, name):
    data, seen = blobs(), Steps()
    estimator = recipe(name).build(name, None, None)
    together, apart = (
        fg.Trainer(small(device), estimator=estimator, optimizer=fg.Adam(1e-2, decay=0.1), seed=5)
        for _ in range(2)
    )
    history = together.fit(data, steps=7, batch_size=4, evaluate_every=3, callbacks=[seen])
    batches = data.batches(4, 5)
    results = [apart.step(*next(batches)) for _ in range(7)]
    assert seen.results == list(enumerate(results, 1))
    assert [record.step for record in history.records] == [3, 6, 7]
    assert together.steps_done == 7
    expected = apart.model.parameters()
    for array_name, array in together.model.parameters().items():
        np.testing.assert_array_equal(array, expected[array_name])


class StopAt(fg.Callback):
    """Asks a run to end after a step."""

    def __init__(self, step):
        self.step = step

    def on_start(self, trainer, steps):
        self.trainer = trainer

    def on_step(self, step, result):
        if step == self.step:
            self.trainer.stop()


def test_a_resumed_run_is_the_undisturbed_one(device, tmp_path):
    estimator = recipe("feedback").build("feedback", None, None)

    def fit(stop=None, **options):
        trainer = fg.Trainer(small(device), estimator=estimator, optimizer=fg.Adam(1e-2), seed=5)
        history = trainer.fit(
            blobs(), steps=7, batch_size=4, evaluate_every=5, callbacks=[StopAt(stop)], **options
        )
        return trainer.model.parameters(), [(r.step, r.loss, r.test_loss) for r in history.records]

    whole, records = fit()
    fit(2, checkpoints=fg.Checkpoints(tmp_path, every=2, keep=9))
    taken = [int(path.stem.removeprefix("step-")) for path in sorted((tmp_path / "checkpoints").iterdir())]
    # Steps run ahead up to the next checkpoint or record.
    assert taken == [2]
    resumed, seen = fit(checkpoints=fg.Checkpoints(tmp_path, every=2), resume=True)
    assert seen == records
    for array_name, array in resumed.items():
        np.testing.assert_array_equal(array, whole[array_name])


@pytest.mark.parametrize("name", ["weight-perturbation", "feedback"])
def test_divergence_keeps_what_the_cpu_keeps(device, name):
    estimator = recipe(name).build(name, None, None)
    kept = []
    for where in (device, "cpu"):
        trainer = fg.Trainer(small(where), estimator=estimator, optimizer=fg.SGD(1e18), seed=5)
        with pytest.raises(DivergenceError) as caught, np.errstate(all="ignore"):
            trainer.fit(blobs(), steps=12, batch_size=4)
        kept.append((str(caught.value).split(" (loss")[0], trainer.steps_done, trainer.model.parameters()))
    assert kept[0][:2] == kept[1][:2]
    # A step that is taken back leaves the rounding of parameters as large as it had made them.
    for array in kept[0][2].values():
        assert np.isfinite(array).all()


def test_a_failure_of_the_gpu_names_the_step(device, monkeypatch):
    trainer = fg.Trainer(small(device), optimizer=fg.SGD(1e-3), seed=5)
    x, y = next(blobs().batches(4, 5))
    trainer.step(x, y)

    def fail(*arguments):
        raise fg.DeviceError("device: the GPU failed")

    monkeypatch.setattr(device.driver, "to_host", fail)
    with pytest.raises(fg.DeviceError, match="step 1: device: the GPU failed"):
        trainer.step(x, y)
    monkeypatch.undo()
    monkeypatch.setattr(device.driver, "wait", fail)
    with pytest.raises(
        fg.DeviceError, match=r"steps 1 to 3: device: the GPU failed; Trainer.step names the one"
    ):
        trainer.fit(blobs(), steps=3, batch_size=4)


class Stop(fg.Callback):
    """Interrupts after a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, step, result):
        if step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["weight-perturbation", "feedback"])
def test_an_interrupted_run_counts_what_has_been_taken(device, name):
    estimator = recipe(name).build(name, None, None)
    one, other = (
        fg.Trainer(small(device), estimator=estimator, optimizer=fg.Adam(1e-2), seed=5) for _ in range(2)
    )
    with pytest.raises(KeyboardInterrupt):
        one.fit(blobs(), steps=9, batch_size=4, callbacks=[Stop(2)])
    assert one.steps_done == 5
    batches = blobs().batches(4, 5)
    results = [other.step(*next(batches)) for _ in range(6)]
    assert one.step(*next(blobs().batches(4, 5, 5))) == results[5]


def test_a_schedule_that_fails_is_told_after_the_steps_before(device):
    def rate(step):
        if step == 3:
            raise fg.ConfigError("no rate at step 3")
        return 1e-3

    seen = Steps()
    trainer = fg.Trainer(small(device), optimizer=fg.SGD(rate), seed=5)
    with pytest.raises(fg.ConfigError, match="no rate at step 3"):
        trainer.fit(blobs(), steps=5, batch_size=4, callbacks=[seen])
    assert (trainer.steps_done, len(seen.results)) == (3, 3)


def test_training_goes_on_after_divergence(device):
    trainer = fg.Trainer(small(device), optimizer=fg.SGD(lambda step: 1e18 if step < 3 else 1e-6), seed=5)
    with pytest.raises(DivergenceError):
        trainer.fit(blobs(), steps=12, batch_size=4)
    trainer.model.load_parameters(small("cpu").parameters())
    trainer.steps_done = 3
    assert len(trainer.fit(blobs(), steps=2, batch_size=4).records) == 1


def test_targets_of_another_kind_are_refused(device):
    trainer = fg.Trainer(small(device), loss=fg.MeanSquaredError(), optimizer=fg.SGD(1e-3))
    with pytest.raises(
        fg.ConfigError, match=r"^blobs: targets are class labels; MeanSquaredError takes real numbers"
    ):
        trainer.fit(blobs(), steps=2, batch_size=4)


def test_data_without_room_are_uploaded_batch_by_batch(device, monkeypatch):
    results = []
    for room in (True, False):
        seen = Steps()
        trainer = fg.Trainer(small(device), optimizer=fg.SGD(1e-3), seed=5)
        if not room:
            monkeypatch.setattr("fgnumba.training.device_loop.DeviceLoop.__init__", no_room)
        trainer.fit(blobs(), steps=4, batch_size=4, callbacks=[seen])
        results.append(seen.results)
    assert results[0] == results[1]


def no_room(*arguments):
    raise fg.DeviceError("no room")


def test_two_full_chunks_are_under_way_at_once(device, monkeypatch):
    monkeypatch.setattr("fgnumba.training.device_loop.CHUNK", 2)
    seen = Steps()
    together, apart = (fg.Trainer(small(device), optimizer=fg.Adam(1e-2), seed=5) for _ in range(2))
    together.fit(blobs(), steps=8, batch_size=3, evaluate_every=8, callbacks=[seen])
    batches = blobs().batches(3, 5)
    assert [result for _, result in seen.results] == [apart.step(*next(batches)) for _ in range(8)]


def test_models_are_copied_with_their_device(device):
    model = small(device)
    copied = copy.deepcopy(model)
    assert copied.processor is device
    np.testing.assert_array_equal(copied(blobs().x_test), model(blobs().x_test))


def test_memory_that_is_not_there_is_asked_for_by_the_byte(device, monkeypatch):
    if not hasattr(device.driver, "_left"):
        pytest.skip("the memory of a GPU is not bounded for a test")
    monkeypatch.setattr(device.driver, "_left", 1000)
    with pytest.raises(
        fg.DeviceError, match=r"has no room: [1-9],\d\d\d bytes asked for, [01],?\d+ bytes free"
    ):
        fg.Sequential([fg.Dense(40)], input_shape=9, device=device)
