"""JVPs of random recurrent graphs against float64 NumPy that shares no code with ours; states that are carried on."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.kernels.devices.device import Cpu
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import leading
from fgnumba.kernels.rules.directions import EXPLICIT, NONE
from fgnumba.kernels.rules.philox import STREAM
from fgnumba.layers import Perturbation, Site
from fgnumba.layers.losses import SoftmaxCrossEntropy
from fgnumba.model.plan import Plan
from tests import tolerances
from tests.references import recurrent_reference as reference
from tests.references.graph_reference import evaluated

DIRECTIONS = ("rank1", "rademacher", "gaussian", "explicit")
PROBES = 6

UNITS = st.sampled_from([1, 31, 33])
LENGTHS = st.sampled_from([1, 2, 7, 31, 70])

RECURRENT: dict[str, Any] = {
    "elementwise LSTM": fg.ElementwiseLSTM,
    "minimal GRU": fg.MinGRU,
    "complex LRU": fg.LinearRecurrentUnit,
    "real LRU": lambda units, symbols=None: fg.LinearRecurrentUnit(units, complex=False, symbols=symbols),
    "LSTM": fg.LSTM,
    "GRU": fg.GRU,
}


def moved(model, rng):
    """Give the model vectors that are not those that it begins with."""
    model.load_parameters(
        {
            name: array
            if array.ndim > 1
            else (array + 0.3 * rng.standard_normal(array.shape)).astype(np.float32)
            for name, array in model.parameters().items()
        }
    )


def inputs_of(model, batch, rng):
    shape = (batch, *model.input_shape)
    if model.symbols is not None:
        return rng.integers(0, model.symbols, shape)
    return rng.standard_normal(shape).astype(np.float32)


def losses(model, x, y, tangents, weights=1.0, stream=None):
    """Return the mean of all positions' cross entropies in float64, and its derivative for each tangent."""
    z, dz = evaluated(model, x, tangents, stream=stream)
    z = z.reshape(*y.shape, model.outputs)
    dz = dz.reshape(-1, *z.shape)
    log = z - z.max(-1, keepdims=True)
    log -= np.log(np.exp(log).sum(-1, keepdims=True))
    right = np.arange(model.outputs) == y[..., None]
    rows = ((np.exp(log) - right) * dz).sum(-1)
    return -(weights * log[right].reshape(y.shape)).mean(), (weights * rows).mean((1, 2))


def check(model, batch, direction, seed, masked=False, training=False):
    rng = np.random.default_rng(seed)
    moved(model, rng)
    x = inputs_of(model, batch, rng)
    y = rng.integers(0, model.outputs, (batch, model.positions))
    shapes = {name: array.shape for name, array in model.parameters().items()}
    v = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    drawn: Any = v
    if direction != "explicit":
        drawn = fg.directions.BY_NAME[direction](seed=seed, step=3, index=1)
        v = drawn.materialize(model)
    loss: Any = fg.SoftmaxCrossEntropy()
    weights = np.ones(y.shape)
    if masked:
        # Ragged lengths: the first sequence is whole.
        lengths = np.append(model.positions, rng.integers(1, model.positions + 1, batch - 1))
        weights = (np.arange(model.positions) < lengths[:, None]).astype(np.float64)
        loss = loss.with_example_weights()
    value, d = fg.jvp(model, loss, x, loss.pack(y, weights) if masked else y, drawn, training=training)
    # Beside v, Gaussian probes: E[(∇f · u)²] = ‖∇f‖².
    tangents = {
        name: np.concatenate([v[name][None], rng.standard_normal((PROBES, *shape))])
        for name, shape in shapes.items()
    }
    # What dropout drops is drawn with a direction's seed and step; beside explicit tangents, both are 0.
    stream = (0, 0) if direction == "explicit" else (seed, 3)
    expected, derivatives = losses(model, x, y, tangents, weights, stream if training else None)
    norm = np.sqrt(np.mean(derivatives[1:] ** 2)) * np.sqrt(sum(float((a**2).sum()) for a in v.values()))
    tolerances.GRAPH_LOSS.check(value, expected)
    error, bound = abs(d - derivatives[0]), tolerances.DERIVATIVE * norm + tolerances.NOISE_ALONE["graph"]
    assert error <= bound, f"{error:.3g} over a bound of {bound:.3g}, d = {d:.6g}"


@st.composite
def graphs(draw):
    """Draw one to three recurrent layers, with what may stand before, between and beside them."""
    length = draw(LENGTHS)
    nodes: list[fg.Node] = []

    def add(layer, *inputs):
        nodes.append(fg.Node(f"n{len(nodes)}", layer, inputs or None))
        return nodes[-1].name

    kinds = [RECURRENT[draw(st.sampled_from(sorted(RECURRENT)))] for _ in range(draw(st.integers(1, 2)))]
    start = draw(st.sampled_from(["numbers", "symbols", "embedding"]))
    shape = (length, draw(st.sampled_from([1, 3, 17]))) if start == "numbers" else (length,)
    if start == "embedding":
        add(fg.Embedding(draw(st.sampled_from([1, 7, 65])), draw(UNITS)))
    for number, kind in enumerate(kinds):
        symbols = draw(st.sampled_from([1, 7, 65])) if start == "symbols" and number == 0 else None
        units = draw(UNITS)
        before = add(kind(units, symbols=symbols))
        between = draw(st.sampled_from(["nothing", "norm", "dense", "residual"]))
        if between == "norm":
            add(draw(st.sampled_from([fg.RMSNorm(1e-2), fg.RMSNorm(1e-2, False), fg.LayerNorm(1e-2)])))
        elif between == "dense":
            add(fg.Dense(draw(UNITS), "tanh"))
        elif between == "residual" and not isinstance(nodes[-1].layer, fg.LinearRecurrentUnit):
            add(fg.GRU(units))
            add(fg.Add(), before, nodes[-1].name)
    add(fg.Dense(draw(st.integers(2, 7))))
    return nodes, shape, draw(st.sampled_from([1, 3]))


@settings(max_examples=12, deadline=None)
@given(
    graph=graphs(),
    direction=st.sampled_from(DIRECTIONS),
    seed=st.integers(0, 2**16),
    masked=st.booleans(),
)
def test_jvps_of_random_graphs(graph, direction, seed, masked):
    nodes, shape, batch = graph
    check(fg.Graph(nodes, shape, seed=seed, device="cpu"), batch, direction, seed, masked)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", RECURRENT)
def test_jvps_of_each_layer(kind, direction):
    layers = [RECURRENT[kind](33, symbols=7), RECURRENT[kind](31), fg.RMSNorm(), fg.Dense(3)]
    check(fg.Sequential(layers, (13,), seed=1, device="cpu"), 3, direction, 5, direction == "rank1")


class OfThreads(Cpu):
    """The CPU with a given number of threads."""

    def __init__(self, threads):
        super().__init__()
        self._threads = threads

    @property
    def threads(self):
        return self._threads


def passes(model, batch, directions, x, y, states=None):
    """Run a plan along several directions; return its loss and derivatives, and its output."""
    explicit = {
        name: model.processor.zeros((directions, *p.packed.shape))
        for name, p in model.packed_parameters.items()
    }
    rng = np.random.default_rng(9)
    v = {}
    for name, p in model.packed_parameters.items():
        v[name] = rng.standard_normal((directions, *p.shape)).astype(np.float32)
        for t in range(directions):
            p.assign(v[name][t], explicit[name][t])
    perturbation = Perturbation(EXPLICIT, directions, model.processor.zeros((1,), STREAM), 0, explicit)
    plan = Plan(model, batch, perturbation, SoftmaxCrossEntropy(), states=states)
    plan.run(x, y.ravel())
    return np.array(plan.values), np.array(plan.output), v


@pytest.mark.parametrize("directions", [1, 3, 8])
@pytest.mark.parametrize("kind", RECURRENT)
def test_several_directions_on_any_number_of_threads(kind, directions):
    layers, batch, length = [RECURRENT[kind](65), fg.Dense(4)], 40, 3 if kind in ("LSTM", "GRU") else 31
    found = []
    for threads in (1, 2):
        model = fg.Sequential(layers, (length, 3), seed=1, device=OfThreads(threads))
        rng = np.random.default_rng(2)
        moved(model, rng)
        x, y = inputs_of(model, batch, rng), rng.integers(0, 4, (batch, length))
        found.append((model, *passes(model, batch, directions, x, y)))
    (model, values, output, v), (_, others, outputs, _) = found
    np.testing.assert_array_equal(values, others)
    np.testing.assert_array_equal(output[..., :4], outputs[..., :4])
    expected, derivatives = losses(model, x, y, v)
    norms = [np.sqrt(sum(float((array[t] ** 2).sum()) for array in v.values())) for t in range(directions)]
    tolerances.GRAPH_LOSS.check(values[0], expected)
    largest = np.abs(derivatives / norms).max() * np.array(norms)
    np.testing.assert_array_less(np.abs(values[1:] - derivatives), tolerances.DERIVATIVE * largest * 10)


def windows(kind, symbols, moves):
    """Return outputs and states of one long pass, and of the same in windows with the state carried on."""
    layers = [RECURRENT[kind](33, symbols=symbols)]
    rng, batch, directions = np.random.default_rng(4), 3, 2
    shape = () if symbols else (5,)
    long = fg.Sequential(layers, (12, *shape), seed=1, device="cpu")
    moved(long, rng)
    x, width = inputs_of(long, batch, rng), layers[0].state_width([(12, *shape)])
    blocks = 1 + directions * moves

    def zeros():
        return {0: long.processor.zeros((blocks, batch, width))}

    whole = zeros()
    y = np.zeros((batch, 12), np.int64)
    _, expected, _ = passes(long, batch, directions, x, y, whole)
    carried, rows = zeros(), []
    first = 0
    for length in (1, 7, 4):
        short = fg.Sequential(layers, (length, *shape), seed=1, device="cpu")
        short.load_parameters(long.parameters())
        part = slice(first, first + length)
        _, output, _ = passes(short, batch, directions, x[:, part].copy(), y[:, part].copy(), carried)
        rows.append(output.reshape(1 + directions, batch, length, -1)[..., : short.outputs])
        first += length
    expected = expected.reshape(1 + directions, batch, 12, -1)[..., : long.outputs]
    return long, x, expected, whole[0], np.concatenate(rows, axis=2), carried[0]


@pytest.mark.parametrize("symbols", [None, 5], ids=["numbers", "symbols"])
@pytest.mark.parametrize("kind", RECURRENT)
def test_a_state_with_tangents_goes_on_as_one_long_pass(kind, symbols):
    _, _, expected, whole, found, carried = windows(kind, symbols, True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(carried, whole)


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_state_without_tangents_begins_at_tangents_of_zero(kind):
    model, x, expected, whole, found, carried = windows(kind, None, False)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(carried, whole)
    assert (found[1:, :, 0] == expected[1:, :, 0]).all()
    assert (found[1:, :, -1] != expected[1:, :, -1]).any()
    # The state is what the reference has, in whole panels.
    layer = model.nodes[0].layer
    theta = {name.removeprefix("0."): array.astype(np.float64) for name, array in model.parameters().items()}
    _, last = reference.scanned(layer, theta, x.astype(np.float64))
    panels = np.split(carried[0], len(last), axis=-1)
    for part, right in zip(panels, last, strict=True):
        tolerances.GRAPH_LOSS.check(part[:, : layer.units], right)


@pytest.mark.parametrize("kind", RECURRENT)
def test_inputs_move_too(kind):
    model = fg.Sequential([RECURRENT[kind](33), fg.RMSNorm()], (7, 5), seed=1, device="cpu")
    rng = np.random.default_rng(0)
    x, dx = (rng.standard_normal((2, 7, 5)).astype(np.float32) for _ in range(2))
    y, dy = fg.jvp(model, (x,), (dx,))
    still = {name: np.zeros((1, *array.shape)) for name, array in model.parameters().items()}
    expected, derivative = evaluated(model, x, still, dx=dx[None])
    tolerances.GRAPH_LOSS.check(y.reshape(2, -1), expected)
    tolerances.GRAPH_LOSS.check(dy.reshape(2, -1), derivative[0])


@pytest.mark.parametrize("kind", ["elementwise LSTM", "minimal GRU"])
def test_the_gates_are_kept(kind):
    layer, (batch, length), rng = RECURRENT[kind](33, symbols=5), (2, 6), np.random.default_rng(0)
    model = fg.Sequential([layer], (length,), seed=1, device="cpu")
    device, rows = model.processor, batch * length
    x, y = device.zeros((1, batch, leading(length))), device.zeros((1, rows, leading(33)))
    x[0, :, :length] = rng.integers(0, 5, (batch, length))
    site = Site(
        device=device,
        batch=batch,
        images=0,
        index=0,
        inputs=(Images.of_batch(x, (length,)),),
        output=Images.of_batch(y, (length, 33), by_position=True),
        parameters=model.layer_parameters(0),
        perturbation=Perturbation(NONE, 0, device.zeros((1,), STREAM)),
    )
    operations, kept = layer.bind_kept(site)
    device.program(operations).run()
    assert kept.shape == (rows, 128)
    first, second = (kept.reshape(batch, length, 2, 64)[:, :, gate, :33] for gate in range(2))
    found = y[0].reshape(batch, length, -1)[:, :, :33]
    before = np.concatenate([np.zeros((batch, 1, 33)), found[:, :-1]], axis=1)
    forget, candidate = (second, first) if kind == "elementwise LSTM" else (1 - second, first)
    tolerances.GRAPH_LOSS.check(found, forget * before + (1 - forget) * candidate)
    np.testing.assert_array_equal(found, model(x[0, :, :length])[..., :33])


REFUSED: dict[str, Any] = {
    "an image": (lambda: fg.Sequential([fg.LSTM(3)], (4, 4, 1)), fg.ShapeError, r"a sequence \(L, K\)"),
    "a vector": (lambda: fg.Sequential([fg.GRU(3)], (4,)), fg.ShapeError, "or symbols= for"),
    "numbers for symbols": (
        lambda: fg.Sequential([fg.MinGRU(3, symbols=5)], (4, 2)),
        fg.ShapeError,
        r"symbols \(L,\) are required",
    ),
    "an embedding of numbers": (
        lambda: fg.Sequential([fg.Embedding(5, 3)], (4, 2)),
        fg.ShapeError,
        r"Embedding: the input's shape is \(4, 2\)",
    ),
    "no units": (lambda: fg.ElementwiseLSTM(0), fg.ConfigError, "ElementwiseLSTM: units is 0"),
    "no symbols": (lambda: fg.LSTM(3, symbols=0), fg.ConfigError, "LSTM: symbols is 0"),
    "too many symbols": (lambda: fg.Embedding(2**24 + 1, 3), fg.ConfigError, "Embedding: symbols"),
    "a number for a flag": (
        lambda: fg.LinearRecurrentUnit(3, complex=2),  # type: ignore[arg-type]
        fg.ConfigError,
        "LinearRecurrentUnit: complex",
    ),
    "a small epsilon": (lambda: fg.RMSNorm(1e-40), fg.ConfigError, "RMSNorm: epsilon"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    make, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        make()
