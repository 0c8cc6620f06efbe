"""Laplacians of networks against second differences of a float64 reference that shares no code with ours."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.tuning import tuned
from fgnumba.kernels.emit import vector
from fgnumba.kernels.machine import threads
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.shared.collapsed import cpu as collapsed
from fgnumba.model.collapsed import CollapsedPass
from tests import tolerances_input as tolerances
from tests.kernels.test_activations import REFERENCES
from tests.model.test_graph_jvp import randomized
from tests.references.graph_reference import evaluated, nearest_kink

# Points, then the widths of a network from its input to its output: 1, primes, and beside panels of 32 columns.
SHAPES = [
    (1, (1, 1, 1)),
    (3, (2, 31, 1)),
    (13, (5, 33, 32, 3)),
    (29, (3, 64, 7, 65)),
    (300, (2, 16, 16, 1)),
]


def network(widths, activation, **more):
    """Return a network of dense layers, with biases, and the last of them linear."""
    layers = [fg.Dense(width, activation) for width in widths[1:-1]]
    model = fg.Sequential(
        [*layers, fg.Dense(widths[-1], **more)], input_shape=widths[0], seed=3, device="cpu"
    )
    randomized(model, np.random.default_rng(0))
    return model


def points(model, batch, seed=1):
    """Return points at which no unit stands near a kink."""
    rng = np.random.default_rng(seed)
    kept: list[np.ndarray] = []
    while len(kept) < batch:
        x = rng.standard_normal((1, *model.input_shape)).astype(np.float32)
        if nearest_kink(model, x) > 20 * tolerances.INPUT_STEP:
            kept.append(x[0])
    return np.stack(kept)


def expected(model, x, directions, weights, v=()):
    """Return (1 + T, B, 2 + k, N): values, first derivatives, sums of second ones, and the same along T directions."""
    still = {name: np.zeros((1, *array.shape)) for name, array in model.parameters().items()}
    tangents = still
    if len(v):
        tangents = {name: np.stack([one[name] for one in v]).astype(np.float64) for name in still}

    def at(place):
        value, moving = evaluated(model, place, tangents)
        return np.stack([value, *moving]) if len(v) else value[None]

    here, x, h = at(x), x.astype(np.float64), tolerances.INPUT_STEP
    rows = [here]
    total = 0.0
    for direction, weight in zip(directions.astype(np.float64), weights, strict=True):
        step = h * direction.reshape(x.shape[1:])
        above, below = at(x + step), at(x - step)
        rows.append((above - below) / (2 * h))
        total = total + weight * (above - 2 * here + below) / h**2
    return np.stack([*rows, total], axis=2)


def compare(found, wanted, bound):
    """Compare (B, 2 + k, N): values, first derivatives and sums, each with the largest of its kind."""
    for kind in (slice(0, 1), slice(1, -1), slice(-1, None)):
        error, size = np.abs(found[:, kind] - wanted[:, kind]).max(), np.abs(wanted[:, kind]).max()
        assert error <= bound * max(1.0, size), (kind, error, size)


def all_of(operator, x):
    """Return (B, 2 + k, N): value, first derivatives, and the sum of second ones."""
    value, first, laplacian = operator.derivatives(x)
    np.testing.assert_array_equal(operator(x), laplacian)
    assert value.dtype == first.dtype == laplacian.dtype == np.float32
    return np.concatenate([value[:, None], first, laplacian[:, None]], axis=1)


@pytest.mark.parametrize("activation", REFERENCES)
@pytest.mark.parametrize(("batch", "widths"), SHAPES)
def test_laplacians(activation, batch, widths):
    model = network(widths, activation)
    x = points(model, batch)
    found = all_of(fg.laplacian(model), x)
    assert found.shape == (batch, 2 + widths[0], widths[-1])
    (wanted,) = expected(model, x, np.eye(widths[0]), np.ones(widths[0]))
    compare(found, wanted, tolerances.COLLAPSED)


@pytest.mark.parametrize("activation", REFERENCES)
def test_directions_and_weights(activation):
    model, rng = network((4, 33, 16, 2), activation), np.random.default_rng(7)
    x, directions = points(model, 17), rng.standard_normal((6, 4)).astype(np.float32)
    weights = np.array([1, -0.5, 0, 2, 0.25, 1], np.float32)
    found = all_of(fg.laplacian(model, directions=directions, weights=weights), x)
    (wanted,) = expected(model, x, directions, weights)
    compare(found, wanted, tolerances.COLLAPSED)


@pytest.mark.parametrize("activation", REFERENCES)
@pytest.mark.parametrize(("batch", "widths"), SHAPES)
def test_tangents_of_all_that(activation, batch, widths):
    model, rng = network(widths, activation), np.random.default_rng(5)
    x, directions = points(model, batch), rng.standard_normal((3, widths[0])).astype(np.float32)
    weights = np.array([1, 0.5, -1], np.float32)
    v = [
        {
            name: rng.standard_normal(array.shape).astype(np.float32)
            for name, array in model.parameters().items()
        }
        for _ in range(2)
    ]
    bound = CollapsedPass(model, batch, directions, weights, 2)
    for number, one in enumerate(v):
        bound.move(number, one)
    found, wanted = bound.run(x), expected(model, x, directions, weights, v)
    compare(found[0], wanted[0], tolerances.COLLAPSED)
    for number in (1, 2):
        compare(found[number], wanted[number], tolerances.COLLAPSED_TANGENT)


@pytest.mark.parametrize("isa", vector.executable())
def test_every_instruction_set_and_any_number_of_threads(isa, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, isa)
    model = network((3, 40, 40, 1), "tanh")
    x = points(model, 101)
    results = []
    for number in ("1", "2"):
        monkeypatch.setenv(threads.OVERRIDE, number)
        results.append(all_of(fg.laplacian(model), x))
    (wanted,) = expected(model, x, np.eye(3), np.ones(3))
    for found in results:
        compare(found, wanted, tolerances.COLLAPSED)
    np.testing.assert_array_equal(results[0], results[1])


def test_a_part_of_one_point_gives_the_same_bits(monkeypatch):
    model = network((5, 40, 40, 2), "silu")
    x = points(model, 19)
    before = all_of(fg.laplacian(model), x)
    monkeypatch.setattr(collapsed, "CACHED_POINTS", 0)
    np.testing.assert_array_equal(all_of(fg.laplacian(model), x), before)


def test_the_layers_of_one_bound_chain():
    model = network((2, 8, 1), "tanh")
    operation = collapsed.bind(
        tuned(vector.instruction_set()),
        1,
        x=np.zeros((4, 48), np.float32),
        directions=np.eye(2, 48, dtype=np.float32),
        weights=np.ones(2, np.float32),
        layers=[
            collapsed.ChainLayer(
                model.packed_parameters[f"{i}.weight"].packed,
                model.packed_parameters[f"{i}.bias"].packed,
                outputs,
                name,
            )
            for i, (outputs, name) in enumerate([(8, "tanh"), (1, "identity")])
        ],
        y=np.zeros((1, 4, 4, 1), np.float32),
    )
    # A point has one row in the first layer and four in the second.
    assert operation.multiply_adds == 4 * (2 * 8 + 4 * 8)
    Program([operation]).run()


def test_a_linear_network_does_not_bend():
    model = fg.Sequential(
        [fg.Dense(3, "identity", bias=False), fg.Dense(1, bias=False)], input_shape=3, device="cpu"
    )
    np.testing.assert_array_equal(fg.laplacian(model)(np.ones((2, 3))), np.zeros((2, 1)))


def test_images_are_flattened_and_activations_fused():
    layers = [fg.Flatten(), fg.Dense(9), fg.Activation("tanh"), fg.Dropout(0.5), fg.Dense(2)]
    model = fg.Sequential(layers, input_shape=(2, 3), device="cpu")
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    found = all_of(fg.laplacian(model), x)
    (wanted,) = expected(model, x, np.eye(6), np.ones(6))
    compare(found, wanted, tolerances.COLLAPSED)
    np.testing.assert_array_equal(
        all_of(fg.laplacian(model, directions=np.eye(6).reshape(6, 2, 3)), x), found
    )


def test_parameters_are_read_anew():
    model = network((2, 8, 1), "tanh")
    operator, x = fg.laplacian(model), np.ones((3, 2))
    before = operator(x)
    model.load_parameters({name: 2 * array for name, array in model.parameters().items()})
    assert (operator(x) != before).all()
    np.testing.assert_array_equal(operator(x), fg.laplacian(model)(x))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies(copied):
    operator = fg.laplacian(network((2, 8, 1), "tanh"), weights=[1, -1])
    x = np.ones((3, 2))
    np.testing.assert_array_equal(copied(operator)(x), operator(x))


def joined():
    """Return two dense layers that read the input, and their sum."""
    nodes = [
        fg.Node("a", fg.Dense(3)),
        fg.Node("b", fg.Dense(3), "input"),
        fg.Node("s", fg.Add(), ("a", "b")),
    ]
    return fg.Graph(nodes, 3, device="cpu")


THREE: Any = 3
wrong: Any = fg
DENSE = [fg.Dense(4, "tanh"), fg.Dense(1)]


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (
            lambda: wrong.laplacian(lambda x: x, weights=[1.0]),
            fg.ConfigError,
            "directions and weights are for a model",
        ),
        (lambda: fg.laplacian(THREE), fg.ConfigError, "3 is no function"),
        (
            lambda: fg.laplacian(
                fg.Sequential([fg.Conv2d(2, 1), fg.Flatten(), fg.Dense(1)], (2, 2, 1), device="cpu")
            ),
            fg.ConfigError,
            r"layer '0': .* Conv2d is none",
        ),
        (
            lambda: fg.laplacian(fg.Sequential([fg.Activation("tanh"), *DENSE], 3, device="cpu")),
            fg.ConfigError,
            "layer '0': .* Activation is none",
        ),
        (
            lambda: fg.laplacian(fg.Sequential([fg.Dense(1)], 10**6, device="cpu")),
            fg.DeviceError,
            "this machine has",
        ),
        (lambda: fg.laplacian(joined()), fg.ConfigError, "layer 'b': .* does not read the layer before"),
        (
            lambda: fg.laplacian(fg.Sequential([fg.Dropout(0.5)], 3, device="cpu")),
            fg.ConfigError,
            "the model has none",
        ),
        (
            lambda: fg.laplacian(network((3, 1), "tanh"), directions=np.eye(2)),
            fg.ShapeError,
            r"directions has shape \(2, 2\)",
        ),
        (lambda: fg.laplacian(network((3, 1), "tanh"), directions=np.ones((0, 3))), fg.ShapeError, "k >= 1"),
        (
            lambda: fg.laplacian(network((3, 1), "tanh"), directions=1.0),
            fg.ShapeError,
            "directions has shape",
        ),
        (
            lambda: fg.laplacian(network((3, 1), "tanh"), weights=[1, 2]),
            fg.ShapeError,
            r"weights has shape \(2,\)",
        ),
        (
            lambda: fg.laplacian(network((3, 1), "tanh"), weights=[1, 2, np.inf]),
            fg.ConfigError,
            r"weights\[2\] is inf",
        ),
        (
            lambda: fg.laplacian(network((3, 1), "tanh"), weights=["a"] * 3),
            fg.DtypeError,
            "weights has dtype",
        ),
        (
            lambda: fg.laplacian(network((3, 1), "tanh"))(np.ones((2, 2))),
            fg.ShapeError,
            r"x has shape \(2, 2\)",
        ),
    ],
)
def test_what_is_refused(make, kind, words):
    with pytest.raises(kind, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
