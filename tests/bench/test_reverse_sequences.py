"""Reverse mode through time: every layer of sequences against float64, in windows, carried on, and refused."""

import copy

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.kernels.machine import threads
from fgnumba.model.jvp import checked_targets
from tests import tolerances
from tests.references import sequence_reference as reference

LOSS = fg.SoftmaxCrossEntropy()
RECURRENT = {
    "elementwise-lstm": fg.ElementwiseLSTM,
    "min-gru": fg.MinGRU,
    "complex-linear": lambda units, symbols=None: fg.LinearRecurrentUnit(units, symbols=symbols),
    "real-linear": lambda units, symbols=None: fg.LinearRecurrentUnit(units, complex=False, symbols=symbols),
    "lstm": fg.LSTM,
    "gru": fg.GRU,
}
SYMBOLS, OUTPUTS = 6, 4


def case(layers, shape, symbols, batch=3, seed=0):
    """Return a model away from its initial parameters, and a batch."""
    rng = np.random.default_rng(seed)
    model = fg.Sequential(layers, shape, seed=seed, device="cpu")
    moved = {
        name: array + 0.1 * rng.standard_normal(array.shape) for name, array in model.parameters().items()
    }
    model.load_parameters(moved)
    x = (
        rng.integers(0, SYMBOLS, (batch, *shape))
        if symbols
        else rng.standard_normal((batch, *shape), np.float32)
    )
    return model, x, rng.integers(0, OUTPUTS, (batch, shape[0]))


def doubles(model):
    return {name: array.astype(np.float64) for name, array in model.parameters().items()}


def norm(arrays):
    return np.sqrt(sum(float((array**2).sum()) for array in arrays.values()))


def check(model, x, y, cuts=(), **how):
    value, found = reverse.value_and_grad(model, LOSS, x, y, **how)
    given = x if x.dtype.kind in "iu" else x.astype(np.float64)
    tolerances.MODEL_LOSS.check(value, reference.cross_entropy(model.layers, doubles(model), given, y))
    exact = reference.gradient(model.layers, doubles(model), given, y, cuts)
    bound = tolerances.DERIVATIVE * norm(exact)
    for name, array in exact.items():
        error = float(np.linalg.norm(found[name] - array))
        assert error <= bound, f"{name}: {error:.3g} over a bound of {bound:.3g}"


@pytest.mark.parametrize("name", RECURRENT)
def test_gradients_of_symbols(name):
    check(*case([RECURRENT[name](5, SYMBOLS), fg.Dense(OUTPUTS)], (7,), True))


@pytest.mark.parametrize("name", RECURRENT)
def test_gradients_through_a_layer_below(name):
    check(*case([fg.Dense(3), RECURRENT[name](5), fg.Dense(OUTPUTS)], (7, 2), False))


@pytest.mark.parametrize("name", RECURRENT)
def test_gradients_of_more_than_a_panel_of_units(name):
    layers = [fg.Embedding(SYMBOLS, 33), RECURRENT[name](37), fg.Dense(OUTPUTS)]
    model, x, y = case(layers, (11,), True, batch=4)
    _, found = reverse.value_and_grad(model, LOSS, x, y)
    rng = np.random.default_rng(1)
    for moving, size in model.parameters().items():
        v = {name: np.zeros(array.shape) for name, array in model.parameters().items()}
        v[moving] = rng.standard_normal(size.shape)
        exact = reference.derivative(layers, doubles(model), x, y, v)
        error = abs(float((found[moving] * v[moving]).sum()) - exact)
        assert error <= tolerances.DERIVATIVE * norm(found) * norm(v), moving


def test_gradients_through_normalisations_and_several_recurrences():
    layers = [
        fg.Embedding(SYMBOLS, 5),
        fg.RMSNorm(),
        fg.ElementwiseLSTM(4),
        fg.LayerNorm(),
        fg.LSTM(3),
        fg.RMSNorm(),
        fg.GRU(6),
        fg.Dense(OUTPUTS),
    ]
    check(*case(layers, (6,), True))


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("window", [1, 3, None])
def test_windows_that_hand_their_cotangents_on_are_exact(name, window):
    layers = [fg.Dense(3), RECURRENT[name](4), fg.Dense(OUTPUTS)]
    check(*case(layers, (7, 2), False, batch=2), checkpoint=True, window=window)


@pytest.mark.parametrize("name", RECURRENT)
def test_windows_that_do_not_are_truncated(name):
    layers = [RECURRENT[name](4, SYMBOLS), fg.Dense(OUTPUTS)]
    model, x, y = case(layers, (7,), True, batch=2)
    check(model, x, y, cuts=(3, 6), window=3)


def test_checkpoints_of_states_need_less_memory():
    model, x, y = case([fg.ElementwiseLSTM(40, SYMBOLS), fg.Dense(OUTPUTS)], (400,), True, batch=2)
    whole, windows = reverse.ReversePlan(model, 2, LOSS), reverse.ThroughTime(model, 2, LOSS)
    assert windows.window == 20
    assert windows.nbytes < whole.nbytes / 5
    given = model.checked_input(x), checked_targets(model, LOSS, x, y)
    tolerances.SAME_LOSS.check(windows.run(*given), whole.run(*given))


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("name", ["elementwise-lstm", "lstm", "gru"])
def test_states_are_carried_from_step_to_step(name, checkpoint):
    layers = [RECURRENT[name](8, SYMBOLS), fg.Dense(OUTPUTS)]
    model, x, y = case(layers, (4,), True)
    long = fg.Sequential(layers, (8,), device="cpu")
    long.load_parameters(model.parameters())
    more, targets = np.concatenate([x, x[:, ::-1]], 1), np.concatenate([y, y], 1)
    trainer = reverse.ReverseTrainer(model, 1e-9, carry_states=True, checkpoint=checkpoint)
    losses = [trainer.step(more[:, :4], y), trainer.step(more[:, 4:], y)]
    expected, _ = reverse.value_and_grad(long, LOSS, more, targets)
    tolerances.SAME_LOSS.check(np.mean(losses), expected)


def test_a_copy_goes_on_with_the_states():
    model, x, y = case([fg.GRU(8, SYMBOLS), fg.Dense(OUTPUTS)], (4,), True)
    trainer = reverse.ReverseTrainer(model, 0.1, carry_states=True)
    trainer.step(x, y)
    twin = copy.deepcopy(trainer)
    assert twin.step(x, y) == trainer.step(x, y)
    for name, array in trainer.model.parameters().items():
        np.testing.assert_array_equal(array, twin.model.parameters()[name])


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_step_is_the_gradient_times_the_learning_rate(checkpoint):
    model, x, y = case([fg.LSTM(8, SYMBOLS), fg.Dense(OUTPUTS)], (7,), True)
    before = model.parameters()
    value, gradient = reverse.value_and_grad(model, LOSS, x, y, checkpoint=checkpoint)
    assert reverse.ReverseTrainer(model, 0.25, checkpoint=checkpoint).step(x, y) == value
    for name, array in model.parameters().items():
        tolerances.GRADIENT_STEP.check(array, before[name] - 0.25 * gradient[name], name)


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("optimizer", [fg.SGD(0.5), fg.Adam(1e-2)], ids=["sgd", "adam"])
def test_a_trainer_learns_to_repeat(optimizer, checkpoint, carry):
    model, x, _ = case([fg.ElementwiseLSTM(24, SYMBOLS), fg.Dense(SYMBOLS)], (6,), True, batch=16)
    y = np.concatenate([x[:, :1], x[:, :-1]], 1)
    estimator = reverse.ReverseMode(checkpoint=checkpoint)
    trainer = fg.Trainer(model, estimator=estimator, optimizer=optimizer, carry_states=carry)
    losses = [trainer.step(x, y).loss for _ in range(60)]
    assert losses[-1] < 0.6 * losses[0]


def test_gradients_do_not_depend_on_threads(monkeypatch):
    if threads.thread_count() < 2:
        pytest.skip("needs two processors")
    layers = [fg.Dense(96), fg.ElementwiseLSTM(96), fg.LSTM(96), fg.Dense(OUTPUTS)]
    found = []
    for number in ("1", "2"):
        monkeypatch.setenv(threads.OVERRIDE, number)
        model, x, y = case(layers, (40, 8), False, batch=16)
        found.append(reverse.value_and_grad(model, LOSS, x, y)[1])
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])


def test_what_has_no_windows_is_refused():
    flat = fg.Sequential([fg.Dense(3)], 5, device="cpu")
    with pytest.raises(fg.ConfigError, match="no recurrent layer"):
        reverse.value_and_grad(flat, LOSS, np.zeros((2, 5)), np.zeros(2, int), window=2)
    model, x, y = case([fg.GRU(5, SYMBOLS), fg.Dense(OUTPUTS)], (4,), True)
    with pytest.raises(fg.ConfigError, match="window is 5; "):
        reverse.value_and_grad(model, LOSS, x, y, window=5)
    last = fg.Sequential([fg.GRU(5, SYMBOLS), fg.Flatten(), fg.Dense(OUTPUTS)], (4,), device="cpu")
    with pytest.raises(fg.ConfigError, match="windows need an output at each position"):
        reverse.value_and_grad(last, LOSS, x, y[:, 0], window=2)
    dropping = fg.Sequential([fg.GRU(5, SYMBOLS), fg.Dropout(0.5), fg.Dense(OUTPUTS)], (4,), device="cpu")
    with pytest.raises(fg.ConfigError, match="layer '1': Dropout; reverse mode in windows"):
        reverse.ReverseTrainer(dropping, 0.1, checkpoint=True).step(x, y)


def test_a_flattened_sequence_is_refused_by_no_gradient():
    layers = [fg.GRU(5, SYMBOLS), fg.Flatten(), fg.Dense(OUTPUTS)]
    model = fg.Sequential(layers, (4,), device="cpu")
    x, y = np.arange(8).reshape(2, 4) % SYMBOLS, np.array([1, 2])
    value, gradient = reverse.value_and_grad(model, LOSS, x, y)
    v = {name: np.ones_like(array) for name, array in model.parameters().items()}
    forward, d = fg.jvp(model, LOSS, x, y, v)
    tolerances.SAME_LOSS.check(value, forward)
    along = sum(float(array.sum(dtype=np.float64)) for array in gradient.values())
    assert abs(along - d) <= tolerances.DERIVATIVE * norm(gradient) * norm(v)
