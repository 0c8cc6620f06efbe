"""Models of sequences (L, C): each position is taken by itself, and losses are means over all positions."""

from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from tests import tolerances

LAYERS: dict[str, Any] = {
    "dense": lambda n: [fg.Dense(33, "tanh"), fg.Dense(n)],
    "normalised": lambda n: [
        fg.LayerNorm(),
        fg.Dense(31),
        fg.Activation("tanh"),
        fg.LayerNorm(),
        fg.Dense(n),
    ],
    "normalised output": lambda n: [fg.Dense(n, "tanh"), fg.LayerNorm()],
    "flattened": lambda n: [fg.Dense(5, "tanh"), fg.Flatten(), fg.Dense(n)],
    "flattened output": lambda n: [fg.Dense(n, "tanh"), fg.Flatten()],
    "flattened input": lambda n: [fg.Flatten(), fg.Dense(n)],
}
LOSS, X, Y = fg.SoftmaxCrossEntropy(), np.zeros((2, 6, 4), np.float32), np.zeros((2, 6), int)
V = fg.directions.RankOne(seed=1)
SHAPES = [(3, 5, 7, 4), (1, 1, 3, 2), (2, 13, 40, 1), (1, 70, 17, 65)]


def reference(layers, parameters, x):
    h = x
    for index, layer in enumerate(layers):
        if isinstance(layer, fg.Dense):
            h = h @ parameters[f"{index}.weight"] + parameters[f"{index}.bias"]
            h = np.tanh(h) if layer.activation == "tanh" else h
        elif isinstance(layer, fg.LayerNorm):
            deviation = h - h.mean(-1, keepdims=True)
            h = deviation / np.sqrt(np.mean(deviation**2, -1, keepdims=True) + layer.epsilon)
            h = h * parameters[f"{index}.scale"] + parameters[f"{index}.shift"]
        elif isinstance(layer, fg.Flatten):
            h = h.reshape(len(h), -1)
        else:
            h = np.tanh(h)
    return h


@pytest.mark.parametrize("kind", list(LAYERS))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_losses_and_derivatives_are_those_of_positions(kind, shape):
    batch, length, width, outputs = shape
    layers, rng = LAYERS[kind](outputs), np.random.default_rng(length)
    model = fg.Sequential(layers, (length, width), seed=1, device="cpu")
    x = rng.standard_normal((batch, length, width)).astype(np.float32)
    z = model(x)
    y = rng.integers(0, model.outputs, z.shape[:-1])
    theta = {name: array.astype(np.float64) for name, array in model.parameters().items()}

    def along(v):
        # The derivative by a complex step: there is no difference, and so no cancellation.
        moved = {name: array + 1e-20j * v[name] for name, array in theta.items()}
        return cross_entropy(reference(layers, moved, x.astype(np.complex128)), y).imag / 1e-20

    right = reference(layers, theta, x.astype(np.float64))
    assert z.shape == right.shape == (batch, *model.output_shape)
    tolerances.GRAPH_LOSS.check(z, right)
    direction = fg.directions.Rademacher(seed=2)
    value, derivative = fg.jvp(model, fg.SoftmaxCrossEntropy(), x, y, direction)
    tolerances.GRAPH_LOSS.check(value, cross_entropy(right, y))
    # E (∇f · v)² = ‖∇f‖² for signs v; ‖v‖² is their number.
    signs = [fg.directions.Rademacher(seed=3, step=step).materialize(model) for step in range(16)]
    norm = np.sqrt(np.mean([along(v) ** 2 for v in signs]) * model.parameter_count)
    error = abs(derivative - along(direction.materialize(model)))
    assert error <= tolerances.DERIVATIVE * norm + tolerances.NOISE_ALONE["graph"]


def test_derivatives_in_the_input():
    model = fg.Sequential([fg.Dense(6, "tanh"), fg.LayerNorm(), fg.Dense(3)], (5, 4), device="cpu")
    rng = np.random.default_rng(0)
    x, dx = (rng.standard_normal((2, 5, 4)).astype(np.float32) for _ in range(2))
    y, dy = fg.jvp(model, (x,), (dx,))
    theta = {name: array.astype(np.float64) for name, array in model.parameters().items()}
    moved = reference([node.layer for node in model.nodes], theta, x + 1e-20j * dx.astype(np.float64))
    tolerances.GRAPH_LOSS.check(y, moved.real)
    tolerances.GRAPH_LOSS.check(dy, moved.imag / 1e-20)


def test_steps_move_parameters_along_the_losses_of_positions():
    model = fg.Sequential([fg.Dense(8, "tanh"), fg.Dense(3)], (6, 4), device="cpu")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 6, 4)).astype(np.float32), rng.integers(0, 3, (5, 6))
    trainer = fg.Trainer(
        model,
        loss=fg.SoftmaxCrossEntropy(),
        estimator=fg.WeightPerturbation("rank1", directions=64),
        optimizer=fg.Adam(0.02),
    )
    losses = [trainer.step(x, y).loss for _ in range(60)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model: model(np.zeros((2, 5, 3))), "(B, 6, 4)"),
        (lambda model: fg.jvp(model, LOSS, X, np.zeros((2, 5), int), V), "(2, 6, ...)"),
        (lambda model: fg.jvp(model, LOSS, X, np.zeros(12, int), V), "(2, 6, ...)"),
        (
            lambda model: fg.Trainer(model, loss=LOSS, estimator="activity", optimizer="sgd").step(X, Y),
            "takes no sequences",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    model = fg.Sequential([fg.Dense(8, "tanh"), fg.Dense(3)], (6, 4), device="cpu")
    with pytest.raises(fg.FgError) as caught:
        make(model)
    assert message in str(caught.value)


def cross_entropy(z, y):
    z = z - z.real.max(-1, keepdims=True)
    return np.mean(np.log(np.exp(z).sum(-1)) - np.take_along_axis(z, y[..., None], -1)[..., 0])


def test_streams_go_on_from_call_to_call_and_take_any_length():
    model = fg.Sequential([fg.Dense(8, "tanh"), fg.Dense(3)], (6, 4), device="cpu")
    x = np.random.default_rng(0).standard_normal((2, 700, 4)).astype(np.float32)
    stream = model.stream(batch=2)
    whole = stream(x)
    assert whole.shape == (2, 700, 3)
    np.testing.assert_array_equal(whole, np.concatenate([stream(x[:, :1]), stream(x[:, 1:])], axis=1))
    np.testing.assert_array_equal(whole[:, :6], model(x[:, :6]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model: model.stream()(np.zeros((2, 3, 4))), "1 are required"),
        (lambda model: model.stream(0), "batch is 0"),
        (lambda model: model.at_length(0), "length is 0"),
        (lambda model: fg.Sequential([fg.Dense(3)], 4).stream(), "sequences (L, ...)"),
        (
            lambda model: fg.Sequential([fg.Dense(3), fg.Flatten(), fg.Dense(2)], (6, 4)).at_length(2),
            "layers[2]: its parameters depend on the length",
        ),
        (
            lambda model: fg.Trainer(model, optimizer="sgd", estimator="spsa", carry_states=True),
            "SPSA cannot carry states",
        ),
    ],
)
def test_streams_that_cannot_be_are_refused(make, message):
    model = fg.Sequential([fg.Dense(8, "tanh"), fg.Dense(3)], (6, 4), device="cpu")
    with pytest.raises(fg.FgError) as caught:
        make(model)
    assert message in str(caught.value)
