"""JVPs of random convolutional and residual graphs against float64 forward mode that shares no code with ours."""

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.kernels.emit import vector
from tests import tolerances
from tests.graph_cases import CONVOLUTIONS, WIRINGS
from tests.kernels.test_activations import REFERENCES
from tests.references.graph_reference import evaluated, nearest_kink, softmax_cross_entropy

DIRECTIONS = ("rank1", "rademacher", "gaussian", "explicit")
CHANNELS = st.one_of(st.integers(1, 70), st.sampled_from([1, 2, 3, 16, 31, 32, 33, 64, 65]))
SIDES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 11, 13, 23])

PROBES = 16


def randomized(model, rng):
    """Give the model biases, scales and shifts that are not those it begins with."""
    model.load_parameters(
        {
            name: array
            if name.endswith("weight")
            else (array + 0.5 * rng.standard_normal(array.shape)).astype(np.float32)
            for name, array in model.parameters().items()
        }
    )


def off_kinks(model, batch, rng, ties=False):
    """Return images at which no unit, and no maximum, is so undecided that rounding could decide it otherwise.

    Some networks have none, or hardly any: their example is rejected.
    """
    for _ in range(50):
        x = rng.standard_normal((batch, *model.input_shape)).astype(np.float32)
        x = np.round(x) if ties else x
        if nearest_kink(model, x) > tolerances.NEAR_A_KINK:
            return x
    reject()


def check(model, batch, direction, seed, ties=False):
    rng = np.random.default_rng(seed)
    randomized(model, rng)
    x = off_kinks(model, batch, rng, ties)
    y = rng.integers(0, model.outputs, batch)
    shapes = {name: array.shape for name, array in model.parameters().items()}
    if direction == "explicit":
        v = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        value, d = fg.jvp(model, fg.SoftmaxCrossEntropy(), x, y, v)
    else:
        drawn = fg.directions.BY_NAME[direction](seed=seed, step=3, index=1)
        v = drawn.materialize(model)
        value, d = fg.jvp(model, fg.SoftmaxCrossEntropy(), x, y, drawn)
    # Beside v, Gaussian probes: E[(∇f · u)²] = ‖∇f‖².
    tangents = {
        name: np.concatenate([v[name][None], rng.standard_normal((PROBES, *shape))])
        for name, shape in shapes.items()
    }
    expected, derivatives = softmax_cross_entropy(evaluated(model, x, tangents), y)
    norm = np.sqrt(np.mean(derivatives[1:] ** 2)) * np.sqrt(sum(float((a**2).sum()) for a in v.values()))
    tolerances.GRAPH_LOSS.check(value, expected)
    error, bound = abs(d - derivatives[0]), tolerances.DERIVATIVE * norm + tolerances.NOISE_ALONE["graph"]
    assert error <= bound, f"{error:.3g} over a bound of {bound:.3g}, d = {d:.6g}"


@st.composite
def convolutions(draw, channels):
    """Draw a convolution that fits into every image: what is too small for its kernel is padded."""
    filters = draw(CHANNELS)
    groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    if groups > 1:
        filters = groups * draw(st.integers(1, max(1, 70 // groups)))
    size = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    extent = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    padding = draw(
        st.one_of(
            st.just("same"),
            st.just(tuple((e - 1 - draw(st.integers(0, (e - 1) // 2)), e - 1) for e in extent)),
        )
    )
    return fg.Conv2d(
        filters,
        size,
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 2))),
        padding=padding,
        dilation=dilation,
        groups=groups,
        activation=draw(st.sampled_from(sorted(REFERENCES))),
        bias=draw(st.booleans()),
    )


@st.composite
def graphs(draw):
    """Draw a few layers, residual and concatenated blocks among them, with a classifier at the end."""
    shape = (draw(SIDES), draw(SIDES), draw(st.integers(1, 5)))
    nodes: list[fg.Node] = []
    channels = shape[2]

    def add(layer, *inputs):
        nodes.append(fg.Node(f"n{len(nodes)}", layer, inputs or None))
        return nodes[-1].name

    for _ in range(draw(st.integers(1, 3))):
        kind = draw(
            st.sampled_from(["conv", "conv", "3x3", "pool", "norm", "residual", "concatenate", "activation"])
        )
        here = nodes[-1].name if nodes else "input"
        if kind == "conv":
            layer = draw(convolutions(channels))
            channels = layer.filters
            add(layer)
        elif kind == "3x3":
            # Sixteen channels and more, and stride 1: filtered where the image is large enough.
            channels = draw(CHANNELS)
            add(fg.Conv2d(draw(st.sampled_from([16, 32, 48])), 1, activation="tanh"))
            padding = draw(st.sampled_from(["same", 1, ((2, 1), (1, 3))]))
            add(fg.Conv2d(channels, 3, padding=padding, activation=draw(st.sampled_from(sorted(REFERENCES)))))
        elif kind == "pool":
            pool = draw(st.sampled_from([fg.MaxPool2d, fg.AvgPool2d]))
            add(pool(draw(st.integers(1, 3)), stride=draw(st.integers(1, 3)), padding="same"))
        elif kind == "norm":
            divisors = [g for g in range(1, channels + 1) if channels % g == 0]
            affine, groups = draw(st.booleans()), draw(st.sampled_from(divisors))
            add(draw(st.sampled_from([fg.LayerNorm(1e-2, affine), fg.GroupNorm(groups, 1e-2, affine)])))
        elif kind == "residual":
            add(fg.Conv2d(channels, 3, padding="same", activation="tanh"))
            body = add(fg.Conv2d(channels, 3, padding="same"))
            add(fg.Add(draw(st.sampled_from(["identity", "relu"]))), body, here)
        elif kind == "concatenate":
            filters = draw(CHANNELS), draw(CHANNELS)
            first = add(fg.Conv2d(filters[0], 1), here)
            second = add(fg.Conv2d(filters[1], (1, 3), padding="same"), here)
            channels += sum(filters)
            add(fg.Concatenate(), first, here, second)
        else:
            add(fg.Activation(draw(st.sampled_from(sorted(REFERENCES)))))
    add(draw(st.sampled_from([fg.Flatten(), fg.GlobalAveragePool2d()])))
    add(fg.Dense(draw(st.integers(2, 12))))
    return nodes, shape


@settings(max_examples=80)
@given(graphs(), st.integers(1, 9), st.sampled_from(DIRECTIONS), st.integers(0, 2**32 - 1))
def test_jvp_of_any_graph(graph, batch, direction, seed):
    nodes, shape = graph
    check(fg.Graph(nodes, shape, seed=seed), batch, direction, seed)


@pytest.mark.slow
@settings(max_examples=1000)
@given(graphs(), st.integers(1, 9), st.sampled_from(DIRECTIONS), st.integers(0, 2**32 - 1))
def test_jvp_of_many_graphs(graph, batch, direction, seed):
    nodes, shape = graph
    check(fg.Graph(nodes, shape, seed=seed), batch, direction, seed)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_jvp_of_every_convolution(name, direction):
    for first in (True, False):
        layers = [CONVOLUTIONS[name], fg.Conv2d(4, 3, padding="same"), fg.Flatten(), fg.Dense(3)]
        if not first:
            layers.insert(0, fg.Conv2d(6, 1))
        check(fg.Sequential(layers, (9, 8, 6), seed=4), 5, direction, 5)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", vector.executable())
def test_jvp_on_every_instruction_set(name, direction, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    layers = [
        fg.Conv2d(34, 3, padding="same", activation="tanh"),
        fg.Conv2d(34, 3, groups=34, padding="same"),
        fg.MaxPool2d(2),
        fg.Flatten(),
        fg.Dense(5),
    ]
    check(fg.Sequential(layers, (13, 12, 3)), 7, direction, 2)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    "pool", [fg.MaxPool2d(3, 2, "same"), fg.MaxPool2d(2), fg.AvgPool2d(3, 1, 1)], ids=str
)
def test_jvp_with_ties_among_the_pooled(pool, direction):
    layers = [pool, fg.Conv2d(4, 1), pool, fg.Flatten(), fg.Dense(3)]
    check(fg.Sequential(layers, (8, 9, 2)), 6, direction, 3, ties=True)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_jvp_of_single_pixels(direction):
    layers = [
        fg.Conv2d(5, 3, padding="same"),
        fg.MaxPool2d(1),
        fg.GroupNorm(5),
        fg.Conv2d(3, 1),
        fg.AvgPool2d(3, padding="same"),
        fg.Flatten(),
        fg.Dense(4),
    ]
    check(fg.Sequential(layers, (1, 1, 1)), 3, direction, 6)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", WIRINGS)
def test_jvp_of_unusual_wirings(name, direction):
    nodes, shape = WIRINGS[name]
    check(fg.Graph(nodes, shape, seed=3), 5, direction, 2**32 - 1)
