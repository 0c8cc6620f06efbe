"""Models of sequences on a GPU compute, carry their states and train as those on the CPU do."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import DivergenceError
from fgnumba.kernels.devices.gpu import Gpu
from tests import tolerances
from tests.tolerances_recurrences import LONG

B, L, SYMBOLS, WIDTH, CLASSES = 2, 3, 5, 3, 4
RNG = np.random.default_rng(5)
X = RNG.integers(0, SYMBOLS, (2, B, L))
NUMBERS = RNG.standard_normal((2, B, L, WIDTH)).astype(np.float32)
Y = RNG.integers(0, CLASSES, (2, B, L))

# Widths that are no multiple of four, so that positions of a sequence are further apart than they are wide.
LAYERS = {
    "dense": lambda symbols: [fg.Embedding(SYMBOLS, 6) if symbols else fg.Dense(7, "tanh"), fg.LayerNorm()],
    "rms-norm": lambda symbols: [fg.Embedding(SYMBOLS, 7) if symbols else fg.Dense(6), fg.RMSNorm()],
    "elementwise-lstm": lambda symbols: [fg.ElementwiseLSTM(5, symbols)],
    "min-gru": lambda symbols: [fg.MinGRU(5, symbols)],
    "linear-recurrent-unit": lambda symbols: [fg.LinearRecurrentUnit(5, symbols=symbols)],
    "real-linear-recurrent-unit": lambda symbols: [fg.LinearRecurrentUnit(5, complex=False, symbols=symbols)],
    "lstm": lambda symbols: [fg.LSTM(5, symbols)],
    "gru": lambda symbols: [fg.GRU(5, symbols)],
    "positions": lambda symbols: [
        fg.Embedding(SYMBOLS, 6) if symbols else fg.Dense(6),
        fg.PositionalEmbedding(4),
        fg.RotaryEmbedding(heads=3),
    ],
    "transformer": lambda symbols: [
        fg.Embedding(SYMBOLS, 6) if symbols else fg.Dense(6),
        fg.TransformerBlock(3, 5, "tanh", key_heads=1, rotary=fg.RotaryEmbedding(100.0)),
    ],
    "masked attention": lambda symbols: [
        fg.Embedding(SYMBOLS, 7) if symbols else fg.Dense(7),
        fg.SelfAttention(2, size=3, bias=True, mask=np.tri(L, k=-1) > 0),
        fg.SelfAttention(2, size=5, mask=np.linspace(-1, 1, 2 * L * L).reshape(2, L, L)),
    ],
}
FULL = ("lstm", "gru")


@pytest.fixture
def device(driver):
    return Gpu(driver)


def model_of(layers, device, symbols=True, length=L):
    shape = (length,) if symbols else (length, WIDTH)
    return fg.Sequential(
        [*layers(SYMBOLS if symbols else None), fg.Dense(CLASSES)], shape, seed=1, device=device
    )


@pytest.mark.parametrize(
    ("name", "symbols"),
    [*((name, True) for name in LAYERS), ("dense", False), ("linear-recurrent-unit", False), ("gru", False)],
)
def test_outputs_and_derivatives_are_those_of_the_cpu(device, name, symbols):
    # LSTM and GRU have a product for each position.
    length = 2 if name in FULL else L
    x, y = (X if symbols else NUMBERS)[0][:, :length], Y[0][:, :length]
    one, other = (model_of(LAYERS[name], d, symbols, length) for d in (device, "cpu"))
    tolerances.GPU_TRAINING.check(one(x), other(x))
    loss = fg.SoftmaxCrossEntropy()
    v = (fg.directions.RankOne if symbols else fg.directions.Gaussian)(seed=1, step=2)
    tolerances.GPU_JVP.check(fg.jvp(one, loss, x, y, v), fg.jvp(other, loss, x, y, v))


@pytest.mark.parametrize("name", ["dense", "elementwise-lstm", "linear-recurrent-unit", "lstm", "gru"])
def test_a_stream_goes_on_from_call_to_call(device, name):
    whole, parts = (model_of(LAYERS[name], d) for d in ("cpu", device))
    stream = parts.stream(B)
    found = [stream(X[0][:, :2]), stream(X[0][:, 2:])]
    tolerances.GPU_TRAINING.check(np.concatenate(found, axis=1), whole(X[0]))
    stream.reset()
    assert all(not state.any() for state in stream.state.values())


def trained(layers, device, estimator, x, **options):
    model = model_of(layers, device, x.ndim == 3, x.shape[2])
    trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(0.1), seed=3, **options)
    losses = [trainer.step(*pair).loss for pair in zip(x, Y[:, :, : x.shape[2]], strict=True)]
    return losses, trainer


def check_training(layers, device, estimator, x, **options):
    found, one = trained(layers, device, estimator, x, **options)
    expected, other = trained(layers, "cpu", estimator, x, **options)
    tolerances.GPU_TRAINING.check(found, expected)
    for name, array in other.model.parameters().items():
        tolerances.GPU_TRAINING.check(one.model.parameters()[name], array, name)


@pytest.mark.parametrize("name", ["elementwise-lstm", "gru"])
def test_weight_perturbation_with_states_that_are_carried(device, name):
    x = X[:, :, :2] if name in FULL else X
    check_training(LAYERS[name], device, fg.WeightPerturbation("rank1"), x, carry_states=True)


def test_weight_perturbation_with_dropout_of_positions(device):
    def layers(symbols):
        return [fg.Embedding(SYMBOLS, 7), fg.Dropout(0.3)]

    check_training(layers, device, fg.WeightPerturbation("rademacher"), X)


def test_weight_perturbation_with_dropout_of_attention(device):
    def layers(symbols):
        return [fg.Embedding(SYMBOLS, 4), fg.SelfAttention(2, dropout=0.4), fg.LayerNorm()]

    check_training(layers, device, fg.WeightPerturbation("rademacher"), X)


def kept(trainer):
    """Return copies of what the trainer keeps from step to step: states, traces, moments."""
    return {name: np.array(array) for name, array in trainer.state.arrays.items()}


def test_a_loss_that_is_not_finite_leaves_parameters_states_and_traces(device):
    _, trainer = trained(LAYERS["min-gru"], device, fg.RealTimeRecurrentLearning(), NUMBERS)
    before = kept(trainer)
    parameters = trainer.model.parameters()
    huge = {name: np.full_like(parameters[name], 3e38) for name in ("0.weight", "1.weight")}
    weight = dict(parameters) | huge
    trainer.model.load_parameters(weight)
    with pytest.raises(DivergenceError, match="step 2"):
        trainer.step(NUMBERS[0], Y[0])
    for name, array in kept(trainer).items():
        np.testing.assert_array_equal(array, before[name], name)
    for name, array in weight.items():
        np.testing.assert_array_equal(trainer.model.parameters()[name], array, name)


@pytest.mark.gpu
@pytest.mark.parametrize("layer", [fg.ElementwiseLSTM, fg.MinGRU, fg.LinearRecurrentUnit, fg.LSTM, fg.GRU])
def test_long_sequences_of_full_size(driver, layer):
    rng = np.random.default_rng(1)
    x, y = (rng.integers(0, 65, (32, 64)) for _ in range(2))

    def model(device):
        return fg.Sequential([layer(512, symbols=65), fg.Dense(65)], (64,), seed=1, device=device)

    LONG.check(model(Gpu(driver))(x), model("cpu")(x))
    bits = []
    for graph in (True, False):
        trainer = fg.Trainer(
            model(Gpu(driver, graph=graph)), optimizer=fg.SGD(1e-3), seed=3, carry_states=True
        )
        losses = [trainer.step(x, y).loss for _ in range(4)]
        bits.append((losses, [array.tobytes() for array in trainer.model.parameters().values()]))
    assert bits[0] == bits[1]
