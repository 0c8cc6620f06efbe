"""Derivatives of a model's outputs in its input, against float64 forward mode that shares no code with ours."""

from typing import Any

import numpy as np
import pytest
from numba import njit

import fgnumba as fg
from tests import tolerances
from tests.graph_cases import CONVOLUTIONS, WIRINGS
from tests.kernels.test_activations import REFERENCES
from tests.model.test_graph_jvp import off_kinks, randomized
from tests.references.graph_reference import evaluated

POOLS = {
    "max": fg.MaxPool2d(2, 1, "same"),
    "average": fg.AvgPool2d(3, 2),
    "global": fg.GlobalAveragePool2d(),
    "layer norm": fg.LayerNorm(),
    "group norm": fg.GroupNorm(3),
    "dropout": fg.Dropout(0.5),
    "activation": fg.Activation("gelu"),
}


def check(model, batch, seed=0):
    """Compare outputs and derivatives along random directions with the reference."""
    rng = np.random.default_rng(seed)
    randomized(model, rng)
    x = off_kinks(model, batch, rng)
    dx = rng.standard_normal(x.shape).astype(np.float32)
    y, dy = fg.jvp(model, (x,), (dx,))
    still = {name: np.zeros((1, *array.shape)) for name, array in model.parameters().items()}
    expected, (derivative,) = evaluated(model, x, still, dx=dx[None])
    assert y.dtype == dy.dtype == np.float32
    assert y.shape == dy.shape == (batch, *model.output_shape)
    for found, wanted in ((y, expected), (dy, derivative)):
        error = np.abs(found.reshape(batch, -1) - wanted).max()
        assert error <= tolerances.CHECKED_LAYER * np.abs(wanted).max(), error


@pytest.mark.parametrize("activation", REFERENCES)
@pytest.mark.parametrize(("batch", "widths"), [(1, (1, 1, 1)), (13, (7, 31, 3)), (97, (50, 65, 33))])
def test_perceptrons(activation, batch, widths):
    inputs, hidden, outputs = widths
    layers = [fg.Dense(hidden, activation), fg.Dense(outputs)]
    check(fg.Sequential(layers, input_shape=inputs, device="cpu"), batch)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    layers = [fg.Conv2d(6, 3), CONVOLUTIONS[name], fg.Flatten(), fg.Dense(3)]
    check(fg.Sequential(layers, input_shape=(11, 12, 2), device="cpu"), 5)


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("first", [True, False])
def test_layers_between(name, first):
    between = [POOLS[name]] if name == "global" else [POOLS[name], fg.Flatten()]
    layers = [*([] if first else [fg.Conv2d(6, 3, activation="tanh")]), *between, fg.Dense(4)]
    check(fg.Sequential(layers, input_shape=(7, 8, 6), device="cpu"), 7)


@pytest.mark.parametrize("name", WIRINGS)
def test_graphs(name):
    nodes, shape = WIRINGS[name]
    check(fg.Graph(nodes, shape, device="cpu"), 5)


def test_a_convolution_that_reads_the_input_itself():
    check(fg.Sequential([fg.Conv2d(5, 3, padding="same")], input_shape=(4, 6, 3), device="cpu"), 3)


def test_more_examples_than_a_pass_takes():
    model = fg.Sequential([fg.Dense(3, "tanh")], input_shape=2, device="cpu")
    check(model, 2500)


def test_a_model_without_parameters():
    model = fg.Sequential([fg.Activation("tanh")], input_shape=3, device="cpu")
    x = np.array([[0.0, 1.0, -2.0]], np.float32)
    _, dy = fg.jvp(model, (x,), (np.full_like(x, 2),))
    tolerances.ELEMENTWISE.check(dy, 2 / np.cosh(x.astype(np.float64)) ** 2)


def test_other_plans_of_the_model_are_as_before():
    model = fg.Sequential([fg.Dense(5, "relu"), fg.Dense(2)], input_shape=3, device="cpu")
    x = np.random.default_rng(0).standard_normal((4, 3))
    before = model(x)
    y, _ = fg.jvp(model, primals=(x,), tangents=(x,))
    np.testing.assert_array_equal(model(x), before)
    np.testing.assert_array_equal(y, before)


wrong: Any = fg


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda f, x: wrong.jvp(f, (x,)), fg.ConfigError, "tangents is missing"),
        (lambda f, x: wrong.jvp(f, (x,), (x,), 1), fg.ConfigError, "tangents is missing"),
        (lambda f, x: wrong.jvp(f, x, x), fg.ConfigError, "primals is "),
        (lambda f, x: wrong.jvp(f, (x, x), (x, x)), fg.ConfigError, "primals is 2 arrays"),
        (lambda f, x: wrong.jvp(f, (x,), ()), fg.ConfigError, "tangents is 0 arrays"),
        (lambda f, x: wrong.jvp(f, (x,), (x[:1],)), fg.ShapeError, r"tangents\[0\] has shape \(1, 3\)"),
        (lambda f, x: wrong.jvp(f, (x[:, :2],), (x,)), fg.ShapeError, r"x has shape \(4, 2\)"),
        (lambda f, x: wrong.jvp(f, (x,), (x * 1j,)), fg.DtypeError, r"tangents\[0\] has dtype complex"),
        (lambda f, x: wrong.jvp(3, (x,), (x,)), fg.ConfigError, "3 is no function"),
        (lambda f, x: wrong.jvp(f, (x,), (x,), primals=1), fg.ConfigError, "primals is given twice"),
        (lambda f, x: wrong.jvp(f, (x,), (x,), order=1), fg.ConfigError, "unknown argument 'order'"),
        (
            lambda f, x: wrong.jvp(f, (x,), (x,), training=True),
            fg.ConfigError,
            "training is for a model's loss",
        ),
        (lambda f, x: wrong.forward_gradient(f, x, x), fg.ConfigError, "of a model takes five arguments"),
        (lambda f, x: wrong.forward_gradient(3, x, x), fg.ConfigError, "3 is no function"),
        (lambda f, x: wrong.forward_gradient(np.sum, x), fg.ConfigError, "v is missing"),
        (lambda f, x: wrong.jvp(f, 1, 2, 3, 4, 5), fg.ConfigError, "jvp has 6 arguments"),
    ],
)
def test_what_is_refused(call, kind, words):
    model = fg.Sequential([fg.Dense(2)], input_shape=3, device="cpu")
    with pytest.raises(kind, match=words) as caught:
        call(model, np.ones((4, 3)))
    assert "\n" not in str(caught.value)


def cube(x):
    return x**3


def test_functions_go_the_same_way():
    assert fg.jvp(cube, (2.0,), (1.0,)) == (8.0, 12.0)
    assert fg.jvp(f=cube, primals=(2.0,), tangents=(1.0,)) == (8.0, 12.0)
    assert fg.forward_gradient(cube, 2.0, -1.0) == (8.0, 12.0)
    assert fg.laplacian(cube)(2.0) == 12.0


def test_compiled_functions_call_them_too():
    compiled = njit(cube)

    @njit
    def inside(x):
        value, derivative = fg.jvp(compiled, (x,), (1.0,))
        return value, derivative, fg.forward_gradient(compiled, x, -1.0)[1]

    assert inside(2.0) == (8.0, 12.0, 12.0)
