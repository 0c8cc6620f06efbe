"""Real-time recurrent learning: exact gradients, what is carried from window to window, and what is refused."""

import copy

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.training.state import snapshot
from tests.apart import python
from tests.places import ROOT
from tests.references import recurrences as reference
from tests.tolerances_traces import GRADIENT, LOSS

LENGTH, SYMBOLS = 10, 5
LAYERS = {
    "elementwise_lstm": fg.ElementwiseLSTM,
    "min_gru": fg.MinGRU,
    "linear": lambda units, symbols=None: fg.LinearRecurrentUnit(units, False, symbols),
    "complex_linear": lambda units, symbols=None: fg.LinearRecurrentUnit(units, True, symbols),
}


def streams(batch=3, windows=4, seed=0, symbols=True):
    """Return windows (x, y) of streams of symbols, or of numbers in place of x."""
    rng = np.random.default_rng(seed)
    text = rng.integers(0, SYMBOLS, (batch, windows * LENGTH + 1))
    x = text if symbols else rng.standard_normal((*text.shape, SYMBOLS)).astype(np.float32)
    at = [slice(k * LENGTH, (k + 1) * LENGTH) for k in range(windows)]
    after = [slice(k.start + 1, k.stop + 1) for k in at]
    return [(x[:, k], text[:, n]) for k, n in zip(at, after, strict=True)]


def network(kind="elementwise_lstm", symbols=True, units=17, seed=1, outputs=SYMBOLS):
    layer = LAYERS[kind](units, SYMBOLS if symbols else None)
    shape = (LENGTH,) if symbols else (LENGTH, SYMBOLS)
    return fg.Sequential([layer, fg.Dense(outputs)], shape, seed=seed, device="cpu")


def trainer(model, optimizer=None, **given):
    estimator = fg.RealTimeRecurrentLearning(**given)
    return fg.Trainer(model, estimator=estimator, optimizer=optimizer or fg.Adam(4e-3), seed=2)


def residual(z, y):
    """Return softmax cross-entropy and its gradient in z, over all positions."""
    e = np.exp(z - z.max(-1, keepdims=True))
    e /= e.sum(-1, keepdims=True)
    chosen = np.take_along_axis(e, y[..., None], -1)
    loss = -np.log(chosen).mean()
    np.put_along_axis(e, y[..., None], chosen - 1, -1)
    return loss, e / y.size


def as_float64(model):
    return {name: array.astype(np.float64) for name, array in model.parameters().items()}


def of_layer(parameters, name):
    return {key.removeprefix(f"{name}."): a for key, a in parameters.items() if key.startswith(f"{name}.")}


def outputs_of(states):
    return np.concatenate([states.real, states.imag], -1) if np.iscomplexobj(states) else states


def back(errors, weight, kind):
    signals = errors @ weight.T
    units = signals.shape[-1] // 2
    return signals[..., :units] + 1j * signals[..., units:] if kind == "complex_linear" else signals


def begun(kind, batch, units):
    return np.zeros((batch, units), np.complex128 if kind == "complex_linear" else np.float64)


def assert_close(found, expected):
    norm = np.sqrt(sum(float((array**2).sum()) for array in expected.values()))
    error = np.sqrt(sum(float(((found[name] - array) ** 2).sum()) for name, array in expected.items()))
    assert error <= GRADIENT * norm, error / norm


@pytest.mark.parametrize("symbols", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_over_windows_are_those_of_backpropagation_through_all_steps(kind, symbols):
    model = network(kind, symbols)
    one = trainer(model, fg.SGD(1e-30))
    parameters = as_float64(model)
    own, weight, bias = of_layer(parameters, "0"), parameters["1.weight"], parameters["1.bias"]
    windows = streams(windows=20, symbols=symbols)
    # Backpropagation through 200 steps, whose loss is the sum of the windows' means.
    x, y = (np.concatenate(arrays, 1) for arrays in zip(*windows, strict=True))
    start = begun(kind, 3, 17)
    states, _ = reference.run(kind, own, x, start)
    loss, errors = residual(outputs_of(states) @ weight + bias, y)
    errors *= len(windows)
    exact, _ = reference.backward(kind, own, x, start, back(errors, weight, kind))
    expected = {f"0.{name}": array for name, array in exact.items()}
    expected["1.weight"] = np.einsum("blh,bln->hn", outputs_of(states), errors)
    expected["1.bias"] = errors.sum((0, 1))
    total, losses = dict.fromkeys(expected, 0.0), []
    for window in windows:
        total = {name: total[name] + array for name, array in one.estimate(*window).items()}
        losses.append(one.step(*window).loss)
    LOSS.check(np.mean(losses), loss)
    assert_close(total, expected)


def test_without_streams_each_step_begins_anew():
    model = network()
    one = fg.Trainer(
        model,
        estimator=fg.RealTimeRecurrentLearning(),
        optimizer=fg.SGD(1e-30),
        carry_states=False,
    )
    window = streams()[0]
    first = one.estimate(*window)
    one.step(*window)
    one.step(*streams()[1])
    assert {n: a.tobytes() for n, a in one.estimate(*window).items()} == {
        n: a.tobytes() for n, a in first.items()
    }


def test_mean_squared_error_of_each_position():
    model = network("min_gru", False, outputs=2)
    one = fg.Trainer(
        model, loss=fg.MeanSquaredError(), estimator=fg.RealTimeRecurrentLearning(), optimizer=fg.SGD(1e-3)
    )
    x = streams(symbols=False)[0][0]
    y = np.random.default_rng(1).standard_normal((3, LENGTH, 2)).astype(np.float32)
    parameters = as_float64(model)
    start = begun("min_gru", 3, 17)
    states, _ = reference.run("min_gru", of_layer(parameters, "0"), x, start)
    z = states @ parameters["1.weight"] + parameters["1.bias"]
    errors = 2 * (z - y) / z.size
    exact, _ = reference.backward(
        "min_gru", of_layer(parameters, "0"), x, start, errors @ parameters["1.weight"].T
    )
    found = one.estimate(x, y)
    LOSS.check(one.step(x, y).loss, np.mean((z - y) ** 2))
    assert_close(found, {f"0.{name}": array for name, array in exact.items()})


def stack(direct, upper="min_gru"):
    nodes = [
        fg.Node("low", fg.ElementwiseLSTM(17, symbols=SYMBOLS)),
        fg.Node("high", LAYERS[upper](5), ("low",)),
        *([fg.Node("all", fg.Concatenate(), ("low", "high"))] if direct else []),
        fg.Node("out", fg.Dense(SYMBOLS)),
    ]
    return fg.Graph(nodes, (LENGTH,), seed=1, device="cpu")


@pytest.mark.parametrize("upper", ["min_gru", "complex_linear"])
@pytest.mark.parametrize("direct", [True, False])
def test_in_a_stack_each_layer_follows_what_it_is_told(direct, upper):
    model = stack(direct, upper)
    one = trainer(model, feedback="direct" if direct else "local")
    heads = {name: p.array().astype(np.float64) for name, p in one.state.parameters.items()}
    assert set(heads) == (set() if direct else {"head.low.weight", "head.low.bias"})
    window = streams()[0]
    found = one.estimate(*window)
    parameters = as_float64(model)
    x, y = window
    low, _ = reference.run("elementwise_lstm", of_layer(parameters, "low"), x, begun("", 3, 17))
    high, _ = reference.run(upper, of_layer(parameters, "high"), low, begun(upper, 3, 5))
    weight = parameters["out.weight"]
    read = np.concatenate([low, outputs_of(high)], -1) if direct else outputs_of(high)
    _, errors = residual(read @ weight + parameters["out.bias"], y)
    told_low, told_high = back(errors, weight[:17], ""), back(errors, weight[17 * direct :], upper)
    if not direct:
        _, own = residual(low @ heads["head.low.weight"] + heads["head.low.bias"], y)
        told_low = own @ heads["head.low.weight"].T
    of_low, _ = reference.backward(
        "elementwise_lstm", of_layer(parameters, "low"), x, begun("", 3, 17), told_low
    )
    of_high, _ = reference.backward(upper, of_layer(parameters, "high"), low, begun(upper, 3, 5), told_high)
    expected = {f"low.{name}": a for name, a in of_low.items()}
    expected |= {f"high.{name}": a for name, a in of_high.items()}
    expected["out.weight"] = np.einsum("blh,bln->hn", read, errors)
    assert_close(found, expected)
    losses = [one.step(*window).loss for _ in range(60)]
    assert losses[-1] < losses[0]
    moved = {name: p.array() for name, p in one.state.parameters.items()}
    assert all(np.any(moved[name] != heads[name]) for name in heads)


def test_it_learns_what_lies_steps_back():
    # The target is the symbol of two steps before, in windows of six: half of it needs states of several steps.
    text = np.random.default_rng(0).integers(0, 2, (8, 2405))
    at_the_end = []
    for traces in (True, False):
        model = fg.Sequential(
            [fg.LinearRecurrentUnit(32, symbols=2), fg.Dense(2)], (6,), seed=0, device="cpu"
        )
        one = trainer(model, fg.Adam(1e-2), traces=traces)
        losses = [one.step(text[:, t : t + 6], text[:, t - 2 : t + 4]).loss for t in range(6, 2394, 6)]
        at_the_end.append(np.mean(losses[-10:]))
    assert at_the_end[0] < 0.05
    assert at_the_end[1] > 0.2


def bits(one):
    return {name: array.tobytes() for name, array in snapshot(one)[1].items()}


def test_a_step_that_fails_moves_nothing():
    model = network(symbols=False)
    one = trainer(model)
    windows = streams(symbols=False)
    one.step(*windows[0])
    before = bits(one)
    huge = np.full_like(windows[1][0], 3e38)
    parameters = model.parameters()
    model.load_parameters({**parameters, "1.weight": np.full_like(parameters["1.weight"], 3e38)})
    with pytest.raises(fg.DivergenceError):
        one.step(huge, windows[1][1])
    model.load_parameters(parameters)
    assert bits(one) == before
    assert np.isfinite(one.step(*windows[1]).loss)


def test_an_estimate_moves_neither_states_nor_traces():
    one = trainer(network())
    windows = streams()
    one.step(*windows[0])
    before = bits(one)
    first = one.estimate(*windows[1])
    assert bits(one) == before
    again = one.estimate(*windows[1])
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)


def test_states_and_traces_are_in_checkpoints():
    one = trainer(network())
    one.step(*streams()[0])
    kept = {f"state.trace.0.{name}" for name in ("weight", "recurrent", "bias")} | {"state.state.0"}
    assert kept <= set(snapshot(one)[1])


def test_another_number_of_streams_is_refused():
    one = trainer(network())
    one.step(*streams()[0])
    with pytest.raises(fg.ConfigError, match="batch of 2 streams: the states so far are those of 3"):
        one.step(*streams(2)[0])


def text_of(folder):
    """Write a text whose letters follow each other by a rule, and return it as a data set."""
    letters = np.random.default_rng(0).integers(0, 4, 900)
    path = folder / "text.txt"
    path.write_text("".join("abcd"[i] for i in (letters[1:] + letters[:-1]) % 4))
    return fg.datasets.load(str(path), context=LENGTH)


def fitted(data, folder=None, stop=None):
    model = fg.Sequential([fg.ElementwiseLSTM(17, symbols=4), fg.Dense(4)], (LENGTH,), seed=1, device="cpu")
    one = trainer(model)

    class Stop(fg.Callback):
        def on_step(self, step, result):
            if step == stop:
                one.stop()

    saved = None if folder is None else fg.Checkpoints(folder, every=5)
    one.fit(data, steps=30, batch_size=3, checkpoints=saved, resume=folder is not None, callbacks=[Stop()])
    return one


def test_a_run_that_is_stopped_and_resumed_has_the_bits_of_a_whole_one(tmp_path):
    data = text_of(tmp_path)
    whole = bits(fitted(data))
    for stop in (8, 17):
        assert fitted(data, tmp_path / "run", stop).steps_done == stop
    assert bits(fitted(data, tmp_path / "run")) == whole


def test_a_copy_has_states_and_traces_of_its_own():
    one = trainer(network())
    windows = streams()
    one.step(*windows[0])
    other, before = copy.deepcopy(one), bits(one)
    other.step(*windows[1])
    assert bits(one) == before
    one.step(*windows[1])
    assert bits(one) == bits(other)


def test_a_second_step_allocates_no_state():
    one = trainer(network())
    windows = streams()
    one.step(*windows[0])
    arrays = {name: id(array) for name, array in one.state.arrays.items()}
    one.step(*windows[1])
    assert {name: id(array) for name, array in one.state.arrays.items()} == arrays


def test_traces_of_one_stream_through_a_large_linear_unit_take_less_than_a_megabyte():
    model = fg.Sequential([fg.LinearRecurrentUnit(256), fg.Dense(3)], (8, 128), device="cpu")
    one = trainer(model)
    one.bind(1)
    traces = [array for name, array in one.state.arrays.items() if name.startswith("trace.")]
    assert len(traces) == 3
    assert sum(array.nbytes for array in traces) < 1_000_000


def sequential(*layers, shape=(LENGTH,)):
    return fg.Sequential(list(layers), shape, device="cpu")


LAYER = fg.ElementwiseLSTM(4, symbols=SYMBOLS)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            sequential(fg.Dense(3), shape=(LENGTH, 2)),
            "the model has no recurrent layer; ElementwiseLSTM, MinGRU",
        ),
        (sequential(fg.GRU(4, symbols=3), fg.Dense(3)), "layer '0', GRU, mixes all units"),
        (sequential(fg.LSTM(4, symbols=3), fg.Dense(3)), "layer '0', LSTM, mixes all units"),
        (sequential(LAYER), "the model ends with ElementwiseLSTM; one Dense at the end"),
        (sequential(LAYER, fg.Dense(3, "tanh")), "layer '1', Dense, has the activation 'tanh'"),
        (
            sequential(LAYER, fg.Dense(3), fg.Dense(3)),
            "layer '1', Dense, has parameters that it cannot train",
        ),
        (sequential(LAYER, fg.LayerNorm(), fg.Dense(3)), "layer '1', LayerNorm, has parameters"),
        (sequential(LAYER, fg.Dropout(0.5), fg.Dense(3)), "layer '1', Dropout, drops units at random"),
        (sequential(LAYER, fg.Activation("tanh"), fg.Dense(3)), "layer '2', Dense, reads '1', a Activation"),
    ],
)
def test_a_model_that_it_cannot_train_is_refused_in_one_line(model, message):
    with pytest.raises(fg.ConfigError, match=f"^real-time recurrent learning: {message}") as caught:
        trainer(model)
    assert "\n" not in str(caught.value)


def test_layers_that_the_readout_does_not_read_need_heads():
    with pytest.raises(fg.ConfigError, match="layer 'low', ElementwiseLSTM, is not read by the Dense"):
        trainer(stack(False), feedback="direct")
    with pytest.raises(fg.ConfigError, match=r"feedback is 'global'; 'local' or 'direct' is required"):
        fg.RealTimeRecurrentLearning(feedback="global")


def test_statements_say_what_is_estimated():
    assert "one recurrent layer" in fg.RealTimeRecurrentLearning().statement
    assert "layers above is left out" in fg.RealTimeRecurrentLearning("direct").statement
    assert fg.RealTimeRecurrentLearning(traces=False).statement.startswith("biased")
    assert not fg.RealTimeRecurrentLearning().unbiased


@pytest.mark.slow
def test_ten_symbols_are_remembered_over_five_hundred_positions(tmp_path):
    process = python(str(ROOT / "examples/copy_task.py"), folder=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == "1000 of 1,000 fresh sequences are copied without a fault"
