"""Reverse mode through any graph against float64 forward mode; with checkpointing, updates and dropout masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.kernels.emit import vector
from fgnumba.kernels.machine import threads
from fgnumba.model import tasks
from fgnumba.runs.presets import model_from, tables
from tests import tolerances
from tests.model.test_graph_jvp import graphs, off_kinks, randomized
from tests.references.graph_reference import evaluated, softmax_cross_entropy

LOSS = fg.SoftmaxCrossEntropy()
PROBES = 8


def batch_for(model, batch, rng):
    x = rng.standard_normal((batch, *model.input_shape)).astype(np.float32)
    return x, rng.integers(0, model.outputs, batch)


def check(model, batch, seed, checkpoint=False):
    rng = np.random.default_rng(seed)
    randomized(model, rng)
    x, y = off_kinks(model, batch, rng), rng.integers(0, model.outputs, batch)
    shapes = {name: array.shape for name, array in model.parameters().items()}
    # Probes of all parameters together, then of each array alone: a wrong one cannot hide behind a large one.
    probes = {name: np.zeros((PROBES + len(shapes), *shape)) for name, shape in shapes.items()}
    for index, (name, shape) in enumerate(shapes.items()):
        probes[name][:PROBES] = rng.standard_normal((PROBES, *shape))
        probes[name][PROBES + index] = rng.standard_normal(shape)
    expected, derivatives = softmax_cross_entropy(evaluated(model, x, probes), y)
    value, gradient = reverse.value_and_grad(model, LOSS, x, y, checkpoint=checkpoint)
    tolerances.GRAPH_LOSS.check(value, expected)
    norm = np.sqrt(sum(float((array.astype(np.float64) ** 2).sum()) for array in gradient.values()))
    for index, derivative in enumerate(derivatives):
        length = np.sqrt(sum(float((v[index] ** 2).sum()) for v in probes.values()))
        found = sum(float((gradient[name] * v[index]).sum()) for name, v in probes.items())
        which = "all" if index < PROBES else list(shapes)[index - PROBES]
        bound = (tolerances.DERIVATIVE * norm + tolerances.NOISE_ALONE["graph"]) * length
        assert abs(found - derivative) <= bound, f"{which}: {found:.7g} for {derivative:.7g}"


@settings(max_examples=60)
@given(graphs(), st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans())
def test_gradients_of_any_graph(graph, batch, seed, checkpoint):
    nodes, shape = graph
    check(fg.Graph(nodes, shape, seed=seed), batch, seed, checkpoint)


@pytest.mark.slow
@settings(max_examples=1000)
@given(graphs(), st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans())
def test_gradients_of_very_many_graphs(graph, batch, seed, checkpoint):
    nodes, shape = graph
    check(fg.Graph(nodes, shape, seed=seed), batch, seed, checkpoint)


CONVOLUTIONS = {
    "filtered": fg.Conv2d(40, 3, padding="same", activation="relu"),
    "filtered-tanh": fg.Conv2d(33, 3, padding=((2, 1), (1, 3)), activation="tanh"),
    "strided": fg.Conv2d(35, 3, stride=2, padding="same", activation="relu"),
    "depthwise": fg.Conv2d(32, 3, groups=32, padding=2, dilation=2),
    "grouped": fg.Conv2d(48, (3, 2), groups=4, stride=(1, 2), activation="gelu"),
    # Zeros beyond the reach of the kernel: no pixel of x is under those of dz.
    "overpadded": fg.Conv2d(7, 2, padding=3, stride=(2, 1), bias=False),
}


@pytest.mark.parametrize("name", vector.executable())
@pytest.mark.parametrize("kind", sorted(CONVOLUTIONS))
def test_convolutions_on_every_instruction_set(kind, name, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    layers = [fg.Conv2d(32, 3, padding=1, activation="silu"), CONVOLUTIONS[kind], fg.Flatten(), fg.Dense(3)]
    check(fg.Sequential(layers, (9, 7, 2), seed=3), 5, 1)


@pytest.mark.parametrize("kind", sorted(CONVOLUTIONS))
def test_chunks_of_the_batch(kind, monkeypatch):
    monkeypatch.setattr(tasks, "CHUNK_BYTES", 0)
    norm = fg.GroupNorm(4, 1e-2)
    layers = [fg.Conv2d(32, 3, padding=1), norm, CONVOLUTIONS[kind], fg.Flatten(), fg.Dense(3)]
    for batch in (17, 33):
        for checkpoint in (False, True):
            check(fg.Sequential(layers, (9, 7, 2), seed=3), batch, 1, checkpoint)
    # A first convolution that reads the caller's array.
    check(fg.Sequential([CONVOLUTIONS[kind], fg.Flatten(), fg.Dense(3)], (9, 7, 32), seed=3), 19, 1)


def test_wide_images_are_taken_in_blocks():
    layers = [fg.Conv2d(3, (2, 3), activation="relu"), fg.GlobalAveragePool2d(), fg.Dense(2)]
    check(fg.Sequential(layers, (45, 67, 2), seed=0), 2, 0)


def deep_model():
    return model_from(tables("resnet", 10), 10, "resnet", (8, 8, 1))


@pytest.mark.parametrize("chunk_bytes", [0, tasks.CHUNK_BYTES])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_step_is_the_gradient_times_the_learning_rate(checkpoint, chunk_bytes, monkeypatch):
    monkeypatch.setattr(tasks, "CHUNK_BYTES", chunk_bytes)
    rng = np.random.default_rng(0)
    model = deep_model()
    x, y = batch_for(model, 33, rng)
    before = model.parameters()
    value, gradient = reverse.value_and_grad(model, LOSS, x, y)
    trainer = reverse.ReverseTrainer(model, 0.25, checkpoint=checkpoint)
    assert trainer.step(x, y) == value
    for name, array in model.parameters().items():
        tolerances.GRADIENT_STEP.check(array, before[name] - 0.25 * gradient[name], name)


def test_checkpointing_gives_the_same_gradient_in_less_memory():
    layers = [fg.Dense(96, activation=activation) for activation in ("relu", "tanh") * 32]
    model = fg.Sequential([*layers, fg.Dense(10)], 96)
    x, y = batch_for(model, 64, np.random.default_rng(0))
    plans = [reverse.ReversePlan(model, 64, LOSS, checkpoint=checkpoint) for checkpoint in (False, True)]
    values = [plan.run(x, y) for plan in plans]
    assert values[0] == values[1]
    for name, array in plans[0].gradients.items():
        np.testing.assert_array_equal(array, plans[1].gradients[name])
    # 65 layers: about 2 √65 of them at a time, with their slopes, panels and cotangents.
    assert plans[1].buffer_nbytes < 0.5 * plans[0].buffer_nbytes


def test_gradients_do_not_depend_on_threads(monkeypatch):
    if threads.thread_count() < 2:
        pytest.skip("needs two processors")
    model = model_from(tables("cnn", 10), 10, "cnn", (16, 16, 1))
    x, y = batch_for(model, 16, np.random.default_rng(0))
    found = []
    for number in ("1", "2"):
        monkeypatch.setenv(threads.OVERRIDE, number)
        found.append(reverse.value_and_grad(model, LOSS, x, y)[1])
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])


@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_dropout_masks_are_those_of_the_forward_pass(kind, monkeypatch):
    monkeypatch.setattr(tasks, "CHUNK_BYTES", 0)
    if kind == "dense":
        model = fg.Sequential([fg.Dense(40, activation="relu"), fg.Dropout(0.5), fg.Dense(5)], 30)
    else:
        layers = [fg.Conv2d(16, 3), fg.Dropout(0.5), fg.Conv2d(7, 3), fg.Flatten(), fg.Dense(5)]
        model = fg.Sequential(layers, (6, 5, 1))
    x, y = batch_for(model, 17, np.random.default_rng(0))
    plan = reverse.ReversePlan(model, 17, LOSS, training=True)
    v = fg.directions.Gaussian(seed=7, step=3)
    plan.stream[...] = v.stream()
    value = plan.run(x, y)
    expected, derivative = fg.jvp(model, LOSS, x, y, v, training=True)
    parameters = model.packed_parameters
    found = sum(
        float((parameters[name].array(plan.gradients[name]) * array).sum())
        for name, array in v.materialize(model).items()
    )
    tolerances.SAME_LOSS.check(value, expected)
    tolerances.ALONG_NOISE.check(found, derivative)
    masked = value
    plan.stream["step"] = 4
    assert plan.run(x, y) != masked


def test_finite_differences_agree():
    """Central differences of the float64 reference, beside its derivatives."""
    model = deep_model()
    rng = np.random.default_rng(2)
    randomized(model, rng)
    x, y = batch_for(model, 3, rng)
    _, gradient = reverse.value_and_grad(model, LOSS, x, y)
    theta = model.parameters()
    v = {name: rng.standard_normal(array.shape) for name, array in theta.items()}
    step = tolerances.FLOAT64_DIFFERENCE
    nothing = {name: np.zeros((1, *array.shape)) for name, array in theta.items()}

    class At:
        """The model at other parameters, in float64."""

        nodes, output = model.nodes, model.output

        def __init__(self, sign):
            self._theta = {name: theta[name].astype(np.float64) + sign * step * v[name] for name in theta}

        def parameters(self):
            return self._theta

    up, down = (softmax_cross_entropy(evaluated(At(sign), x, nothing), y)[0] for sign in (1, -1))
    found = sum(float((gradient[name] * v[name]).sum()) for name in v)
    tolerances.ALONG_NOISE.check(found, (up - down) / (2 * step))
