"""JVPs of random perceptrons against a float64 reference that shares only the activation rules with ours."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.kernels.emit import vector
from tests import tolerances
from tests.kernels.test_activations import REFERENCES

WIDTHS = st.one_of(
    st.integers(1, 300), st.sampled_from([1, 2, 31, 32, 33, 64, 97, 127, 128, 131, 257, 283, 293])
)
BATCHES = st.one_of(st.integers(1, 100), st.sampled_from([1, 2, 3, 10, 11, 12, 13, 22, 23, 64, 89, 97]))
DIRECTIONS = ("rank1", "rademacher", "gaussian", "explicit")


def softmax_cross_entropy(z, y):
    """Return the mean loss and its gradient in z."""
    shifted = z - z.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    p = exponentials / exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = np.log(exponentials.sum(axis=1)) - shifted[rows, y]
    p[rows, y] -= 1
    return loss.mean(), p / len(y)


def mean_squared_error(z, y):
    return np.mean((z - y) ** 2), 2 * (z - y) / z.size


def reference(layers, parameters, x, y, loss):
    """Return loss and gradient of a perceptron, by name, in float64 by reverse accumulation."""
    theta = {name: array.astype(np.float64) for name, array in parameters.items()}
    inputs, slopes, a = [], [], x.astype(np.float64)
    for index, layer in enumerate(layers):
        z = a @ theta[f"{index}.weight"] + theta.get(f"{index}.bias", 0.0)
        inputs.append(a)
        slopes.append(REFERENCES[layer.activation].derivative(z))
        a = REFERENCES[layer.activation].value(z)
    value, cotangent = loss(a, y)
    gradient = {}
    for index in reversed(range(len(layers))):
        cotangent = cotangent * slopes[index]
        gradient[f"{index}.weight"] = inputs[index].T @ cotangent
        if layers[index].bias:
            gradient[f"{index}.bias"] = cotangent.sum(axis=0)
        cotangent = cotangent @ theta[f"{index}.weight"].T
    return value, gradient


def off_kinks(layers, parameters, shape, rng):
    """Return inputs at which no unit stands so near a kink that rounding could put float32 on its other side.

    Some networks have none, or hardly any: their example is rejected.
    """
    theta = {name: array.astype(np.float64) for name, array in parameters.items()}
    for _ in range(200):
        x = rng.standard_normal(shape, np.float32)
        a, clear = x.astype(np.float64), True
        for index, layer in enumerate(layers):
            z = a @ theta[f"{index}.weight"] + theta.get(f"{index}.bias", 0.0)
            if layer.activation in ("relu", "leaky_relu"):
                near = tolerances.NEAR_A_KINK * np.abs(z).max()
                clear &= bool(np.all((np.abs(z) > near) | (z == 0)))
            a = REFERENCES[layer.activation].value(z)
        if clear:
            return x
    reject()


def flat(arrays, names):
    return np.concatenate([np.asarray(arrays[name], np.float64).ravel() for name in names])


def check(layers, inputs, batch, direction, seed, use_mse=False):
    rng = np.random.default_rng(seed)
    model = fg.Sequential(layers, inputs, seed=seed)
    # Biases that are not zero.
    model.load_parameters(
        {
            name: array if name.endswith("weight") else rng.standard_normal(array.shape).astype(np.float32)
            for name, array in model.parameters().items()
        }
    )
    parameters, outputs = model.parameters(), layers[-1].units
    x = off_kinks(layers, parameters, (batch, inputs), rng)
    if use_mse:
        loss: Any = fg.MeanSquaredError()
        reference_loss: Any = mean_squared_error
        y = rng.standard_normal((batch, outputs)).astype(np.float32)
    else:
        loss, reference_loss = fg.SoftmaxCrossEntropy(), softmax_cross_entropy
        y = rng.integers(0, outputs, batch)
    if direction == "explicit":
        v = {name: rng.standard_normal(array.shape).astype(np.float32) for name, array in parameters.items()}
        tangents: Any = v
    else:
        tangents = fg.directions.BY_NAME[direction](seed=seed, step=3, index=1)
        v = tangents.materialize(model)
    value, d = fg.jvp(model, loss, x, y, tangents)
    expected, gradient = reference(layers, parameters, x, y, reference_loss)
    tolerances.MODEL_LOSS.check(value, expected)
    g, direction_vector = flat(gradient, parameters), flat(v, parameters)
    error = abs(d - g @ direction_vector)
    bound = tolerances.DERIVATIVE * np.linalg.norm(g) * np.linalg.norm(direction_vector)
    bound += tolerances.NOISE_ALONE["perceptron"]
    assert error <= bound, f"{error:.3g} over a bound of {bound:.3g}, d = {d:.6g}"


@st.composite
def perceptrons(draw):
    depth = draw(st.integers(1, 5))
    return [
        fg.Dense(draw(WIDTHS), activation=draw(st.sampled_from(sorted(REFERENCES))), bias=draw(st.booleans()))
        for _ in range(depth)
    ]


@settings(max_examples=120)
@given(perceptrons(), WIDTHS, BATCHES, st.sampled_from(DIRECTIONS), st.integers(0, 2**32 - 1), st.booleans())
def test_jvp_of_any_perceptron(layers, inputs, batch, direction, seed, use_mse):
    check(layers, inputs, batch, direction, seed, use_mse)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("activation", sorted(REFERENCES))
def test_jvp_of_every_activation(activation, direction):
    check(
        [fg.Dense(67, activation=activation), fg.Dense(41, activation=activation), fg.Dense(7)],
        53,
        19,
        direction,
        1,
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", vector.executable())
def test_jvp_on_every_instruction_set(name, direction, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    check(
        [fg.Dense(97, activation="gelu"), fg.Dense(33, activation="tanh"), fg.Dense(5)], 71, 37, direction, 2
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_jvp_where_the_reduction_is_cut_into_blocks(direction):
    # A panel of 2,500 rows outgrows the cache's share; four of 600 do for a batch of one.
    check([fg.Dense(40, activation="tanh"), fg.Dense(3)], 2500, 9, direction, 3)
    check(
        [fg.Dense(130, activation="tanh"), fg.Dense(2100, activation="relu"), fg.Dense(3)],
        600,
        1,
        direction,
        4,
    )


@pytest.mark.slow
@settings(max_examples=2000)
@given(perceptrons(), WIDTHS, BATCHES, st.sampled_from(DIRECTIONS), st.integers(0, 2**32 - 1), st.booleans())
def test_jvp_of_many_perceptrons(layers, inputs, batch, direction, seed, use_mse):
    check(layers, inputs, batch, direction, seed, use_mse)
