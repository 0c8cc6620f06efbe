"""The reverse-mode baseline of the benchmarks: gradients against float64, steps against gradients, refused models."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.kernels.emit import vector
from fgnumba.kernels.machine import threads
from tests import tolerances
from tests.kernels.test_activations import REFERENCES
from tests.model.test_jvp import (
    BATCHES,
    WIDTHS,
    mean_squared_error,
    off_kinks,
    perceptrons,
    reference,
    softmax_cross_entropy,
)


def check(layers, inputs, batch, seed, use_mse=False):
    rng = np.random.default_rng(seed)
    model = fg.Sequential(layers, inputs, seed=seed)
    before, outputs = model.parameters(), layers[-1].units
    x = off_kinks(layers, before, (batch, inputs), rng)
    loss: fg.SoftmaxCrossEntropy | fg.MeanSquaredError = fg.SoftmaxCrossEntropy()
    expected_loss, y = softmax_cross_entropy, rng.integers(0, outputs, batch)
    if use_mse:
        loss, expected_loss = fg.MeanSquaredError(), mean_squared_error
        y = rng.standard_normal((batch, outputs)).astype(np.float32)
    value, gradient = reverse.value_and_grad(model, loss, x, y)
    expected, exact = reference(layers, before, x, y, expected_loss)
    tolerances.MODEL_LOSS.check(value, expected)
    norm = np.sqrt(sum(float((array**2).sum()) for array in exact.values()))
    for name, array in exact.items():
        error = float(np.linalg.norm(gradient[name] - array))
        bound = tolerances.DERIVATIVE * norm + tolerances.NOISE_ALONE["reverse"]
        assert error <= bound, f"{name}: {error:.3g} over a bound of {bound:.3g}"
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])


@settings(max_examples=60)
@given(perceptrons(), WIDTHS, BATCHES, st.integers(0, 2**32 - 1), st.booleans())
def test_gradients_of_any_perceptron(layers, inputs, batch, seed, use_mse):
    check(layers, inputs, batch, seed, use_mse)


@pytest.mark.parametrize("name", vector.executable())
@pytest.mark.parametrize("activation", sorted(REFERENCES))
def test_gradients_on_every_instruction_set(activation, name, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    check([fg.Dense(67, activation=activation), fg.Dense(41, activation=activation), fg.Dense(7)], 53, 39, 1)


def test_a_step_is_the_gradient_times_the_learning_rate():
    rng = np.random.default_rng(0)
    layers = [fg.Dense(40, activation="relu"), fg.Dense(33, activation="tanh", bias=False), fg.Dense(5)]
    model = fg.Sequential([fg.Flatten(), *layers], (6, 3, 2))
    for batch in (37, 64):
        x, y = rng.standard_normal((batch, 6, 3, 2), np.float32), rng.integers(0, 5, batch)
        before = model.parameters()
        value, gradient = reverse.value_and_grad(model, fg.SoftmaxCrossEntropy(), x, y)
        assert reverse.ReverseTrainer(model, 0.25).step(x, y) == value
        for name, array in model.parameters().items():
            tolerances.GRADIENT_STEP.check(array, before[name] - 0.25 * gradient[name], name)


def test_steps_do_not_depend_on_threads(monkeypatch):
    if threads.thread_count() < 2:
        pytest.skip("needs two processors")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((48, 300), np.float32), rng.integers(0, 10, 48)
    found = []
    for number in ("1", "2"):
        monkeypatch.setenv(threads.OVERRIDE, number)
        model = fg.Sequential([fg.Dense(400, activation="relu"), fg.Dense(10)], 300)
        trainer = reverse.ReverseTrainer(model, 0.1)
        for _ in range(3):
            trainer.step(x, y)
        found.append(model.parameters())
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])


def test_descent_learns():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    x = (rng.standard_normal((90, 8)) + 2 * np.eye(3, 8)[y]).astype(np.float32)
    trainer = reverse.ReverseTrainer(fg.Sequential([fg.Dense(16, activation="tanh"), fg.Dense(3)], 8), 0.5)
    losses = [trainer.step(x, y) for _ in range(50)]
    assert losses[-1] < 0.3 * losses[0]


class Doubled(fg.Activation):
    """A layer of somebody else's."""


def test_what_has_no_reverse_pass_is_refused():
    model = fg.Sequential([fg.Dense(4, activation="relu"), Doubled("tanh"), fg.Dense(3)], 5)
    with pytest.raises(fg.ConfigError, match="layer '1': Doubled has no reverse pass"):
        reverse.ReverseTrainer(model, 0.1).step(np.zeros((2, 5)), np.zeros(2, int))


def test_bad_input_is_refused():
    model = fg.Sequential([fg.Dense(3)], 5)
    trainer = reverse.ReverseTrainer(model, 0.1)
    with pytest.raises(fg.ShapeError, match="x has shape"):
        trainer.step(np.zeros((2, 4)), np.zeros(2, int))
    with pytest.raises(fg.DatasetError, match="targets"):
        trainer.step(np.zeros((2, 5)), np.array([0, 3]))
    with pytest.raises(fg.ConfigError, match="learning_rate is 0"):
        reverse.ReverseTrainer(model, 0)
    with pytest.raises(fg.DivergenceError, match="step 0: the loss is nan"):
        trainer.step(np.full((2, 5), np.nan), np.zeros(2, int))


@pytest.mark.parametrize("optimizer", [fg.SGD(1e-2), fg.Adam(1e-2)], ids=["sgd", "adam"])
def test_parameters_that_are_not_finite_are_not_said_to_be_kept(optimizer):
    model = fg.Sequential([fg.Dense(9, activation="relu"), fg.Dense(3)], 5, seed=2)
    signs = np.random.default_rng(0)
    model.load_parameters(
        {name: signs.choice([-1e30, 1e30], array.shape) for name, array in model.parameters().items()}
    )
    trainer = fg.Trainer(model, estimator=reverse.ReverseMode(), optimizer=optimizer)
    with pytest.raises(fg.DivergenceError) as caught:
        trainer.step(np.ones((6, 5), np.float32), np.arange(6) % 3)
    finite = all(np.isfinite(array).all() for array in model.parameters().values())
    assert caught.value.kept == finite
