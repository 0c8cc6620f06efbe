"""Reverse mode of layers of many rows, whose cotangents go through a dense layer in panels of features."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.reverse import cotangents
from fgnumba.kernels.emit import vector
from fgnumba.kernels.machine import threads
from tests import tolerances
from tests.bench.test_reverse_graph import check

OUTPUTS = 4


@pytest.fixture(autouse=True)
def by_rows(monkeypatch):
    """Let every dense layer count as one of many rows."""
    monkeypatch.setattr(cotangents, "MANY_ROWS", 1)


def stream(activation, width=37, bias=True, affine=True):
    """Return a small residual stream of sequences, whose dense layers are wider than a panel."""
    return [
        fg.Node("in", fg.Dense(33)),
        fg.Node("norm", fg.LayerNorm(affine=affine)),
        fg.Node("hidden", fg.Dense(width, activation, bias)),
        fg.Node("back", fg.Dense(33, bias=bias)),
        fg.Node("sum", fg.Add(), ("in", "back")),
        fg.Node("twice", fg.Add(), ("sum", "sum")),
        fg.Node("norm2", fg.RMSNorm(affine=affine), ("twice",)),
        fg.Node("out", fg.Dense(OUTPUTS)),
    ]


def flat(nodes):
    """Return the same with one output an example."""
    return [*nodes, fg.Node("flat", fg.Flatten()), fg.Node("last", fg.Dense(3))]


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("activation", ["identity", "relu", "gelu"])
def test_gradients_of_a_residual_stream(activation, checkpoint):
    check(fg.Graph(flat(stream(activation)), (5, 3), device="cpu"), 7, 1, checkpoint)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_of_normalisations_without_parameters(checkpoint):
    # Positions, then examples; the first normalisation reads the input, of which nothing is wanted.
    nodes = flat([fg.Node("first", fg.LayerNorm(affine=False)), *stream("gelu", affine=False)])
    check(fg.Graph(nodes, (5, 3), device="cpu"), 7, 1, checkpoint)
    layers = [fg.Dense(12, "gelu"), fg.LayerNorm(affine=False), fg.GroupNorm(3, affine=False), fg.Dense(3)]
    check(fg.Sequential(layers, 9, device="cpu"), 7, 2, checkpoint)


def test_gradients_of_sums_with_activations_and_dense_layers_alone():
    nodes = [
        fg.Node("a", fg.Dense(32, "tanh", False)),
        fg.Node("b", fg.Dense(32, "silu")),
        fg.Node("c", fg.Dense(32, "relu"), ("a",)),
        fg.Node("sum", fg.Add(activation="gelu"), ("b", "c")),
        fg.Node("out", fg.Dense(OUTPUTS)),
    ]
    check(fg.Graph(flat(nodes), (3, 2), device="cpu"), 11, 2)


@pytest.mark.parametrize("name", vector.executable())
def test_every_instruction_set(name, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    check(fg.Graph(flat(stream("gelu", 40)), (3, 2), device="cpu"), 4, 3)


@pytest.mark.parametrize("loss", [fg.SoftmaxCrossEntropy(), fg.MeanSquaredError(), fg.Huber()], ids=type)
def test_updates_are_the_gradients(loss):
    rng = np.random.default_rng(0)
    model = fg.Graph(stream("gelu"), (5, 3), device="cpu")
    x = rng.standard_normal((6, 5, 3), np.float32)
    symbols = isinstance(loss, fg.SoftmaxCrossEntropy)
    y = rng.integers(0, OUTPUTS, (6, 5)) if symbols else rng.standard_normal((6, 5, OUTPUTS), np.float32)
    before = model.parameters()
    value, gradient = reverse.value_and_grad(model, loss, x, y)
    assert reverse.ReverseTrainer(model, 0.25, loss).step(x, y) == value
    for name, array in model.parameters().items():
        tolerances.GRADIENT_STEP.check(array, before[name] - 0.25 * gradient[name], name)


def test_a_dense_layer_of_few_rows_has_the_same_gradients(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 5, 3), np.float32), rng.integers(0, OUTPUTS, (6, 5))
    model = fg.Graph(stream("gelu"), (5, 3), device="cpu")
    value, found = reverse.value_and_grad(model, fg.SoftmaxCrossEntropy(), x, y)
    monkeypatch.setattr(cotangents, "MANY_ROWS", 1000)
    expected, exact = reverse.value_and_grad(model, fg.SoftmaxCrossEntropy(), x, y)
    tolerances.SAME_LOSS.check(value, expected)
    norm = np.sqrt(sum(float((array**2).sum()) for array in exact.values()))
    for name, array in exact.items():
        assert np.linalg.norm(found[name] - array) <= tolerances.DERIVATIVE * norm, name


def test_gradients_do_not_depend_on_threads(monkeypatch):
    if threads.thread_count() < 2:
        pytest.skip("needs two processors")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 40, 3), np.float32), rng.integers(0, OUTPUTS, (16, 40))
    found = []
    for number in ("1", "2"):
        monkeypatch.setenv(threads.OVERRIDE, number)
        model = fg.Graph(stream("gelu", 128), (40, 3), device="cpu")
        found.append(reverse.value_and_grad(model, fg.SoftmaxCrossEntropy(), x, y)[1])
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])
