"""Block feedback: gradients within blocks, how feedback learns, and what the settings change."""

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.testing import check_estimator
from tests import own_functions
from tests.estimators.block_gradients import (
    check,
    cross_entropy_slope,
    gradients_of,
    know,
    moved,
    packed,
    parameters_of,
    predicted,
    square_slope,
    trainer_of,
)
from tests.tolerances_blocks import ALIGNED, AVERAGED, LEARNED, LEARNED_SLOWLY
from tests.tolerances_traces import GRADIENT

LENGTH, SYMBOLS, WIDTH = 7, 5, 12
STILL = 1e-30
"""A learning rate at which parameters stand still."""


def batch(seed=0, count=3, symbols=True):
    rng = np.random.default_rng(seed)
    text = rng.integers(0, SYMBOLS, (count, LENGTH + 1))
    x = text[:, :-1] if symbols else rng.standard_normal((count, LENGTH, 4)).astype(np.float32)
    return x, text[:, 1:]


def network(*layers, symbols=True, width=WIDTH, seed=1):
    first = (
        [fg.Embedding(SYMBOLS, width), fg.PositionalEmbedding(LENGTH + 2)] if symbols else [fg.Dense(width)]
    )
    shape = (LENGTH,) if symbols else (LENGTH, 4)
    model = fg.Sequential([*first, *layers, fg.Dense(SYMBOLS)], shape, seed=seed, device="cpu")
    moved(model, np.random.default_rng(seed))
    return model


MODELS: dict[str, Any] = {
    "sequential": [fg.TransformerBlock(2), fg.TransformerBlock(3, hidden=5), fg.LayerNorm()],
    "parallel": [
        fg.TransformerBlock(4, parallel=True, activation="relu"),
        fg.TransformerBlock(2, parallel=True),
    ],
    "rms": [
        fg.TransformerBlock(6, key_heads=2, normalization="rms_norm", activation="leaky_relu", causal=False),
        fg.TransformerBlock(1, activation="tanh", rotary=fg.RotaryEmbedding()),
        fg.RMSNorm(),
    ],
    "dropout": [fg.TransformerBlock(2, dropout=0.3), fg.TransformerBlock(3, dropout=0.5)],
}


@pytest.mark.parametrize("symbols", [True, False], ids=["symbols", "numbers"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_blocks_losses(name, symbols):
    """Each gradient g has <g, v> equal to the derivative of its block's loss along v, in float64."""
    x, y = batch(symbols=symbols)
    norms = check(network(*MODELS[name], symbols=symbols), x, y, GRADIENT, share=0.0)
    assert min(norms.values()) > 0


def distances(one):
    """Return the squared distance of each matrix from what it predicts, as a share of the squared norm of that."""
    parameters, found = parameters_of(one), {}
    for name, array in matrices_of(one).items():
        exact = packed(predicted(one.model, parameters, name.removeprefix("feedback.")))
        found[name] = float(((array - exact) ** 2).sum() / (exact**2).sum())
    return found


def matrices_of(one):
    return {name: array for name, array in one.state.arrays.items() if name.startswith("feedback.")}


SQUARE = [fg.TransformerBlock(2, hidden=WIDTH), fg.TransformerBlock(2, hidden=WIDTH)]
"""Blocks of which all weights have as many inputs, so that all matrices learn at the same rate."""


@pytest.mark.parametrize(
    ("noise", "rate", "relayed"),
    [(96, 1.0, True), (5, 1.0, True), (5, 0.5, True), (1, 1.0, True), (96, 1.0, False)],
)
def test_a_step_of_learning_shrinks_distances_as_the_formula_says(noise, rate, relayed):
    """E‖F' - W‖² / ‖F - W‖² is 1 - 2 c R + c² R (R + K - 1): E[S²] of S = Σ ε ⊗ ε is R (R + K - 1) times identity.

    The matrix of a whole branch has a tenth of the rate. The mean is within its noise with a confidence of 1 - 10⁻⁶,
    were it exactly normal.
    """
    model = network(*SQUARE) if relayed else linear("identity", "identity")
    one = trainer_of(model, fg.SGD(STILL), noise=noise, rate=rate, relayed=relayed)
    one.bind(3)
    shares = []
    for _ in range(50):
        for array in matrices_of(one).values():
            array[...] = 0
        one.step(*batch())
        shares += [share for name, share in distances(one).items() if relayed or name.endswith(".branch")]
    rows = min(noise, 3 * LENGTH)
    c = (1.0 if relayed else 0.1) * rate / (rows + WIDTH)
    expected = 1 - 2 * c * rows + c**2 * rows * (rows + WIDTH - 1)
    allowed = NormalDist().inv_cdf(1 - 5e-7) * np.std(shares) / math.sqrt(len(shares))
    assert abs(np.mean(shares) - expected) <= allowed


@pytest.mark.parametrize(("noise", "steps"), [(96, 50), (5, 150)])
def test_matrices_converge_to_the_weights(noise, steps):
    """By Markov's inequality they do with a confidence of 1 - 10⁻⁶, but for roundings: 0.344⁵⁰, 0.689¹⁵⁰ are tiny."""
    one = trainer_of(network(*SQUARE), fg.SGD(STILL), noise=noise)
    for _ in range(steps):
        one.step(*batch())
    assert len(distances(one)) == 10
    assert max(distances(one).values()) <= LEARNED**2


def test_matrices_and_steps_have_noise_of_their_own():
    """From zeros, F is c Σ ε ⊗ ε W: its product with the inverse of W is the noise's own."""
    one, seen = trainer_of(network(*SQUARE), fg.SGD(STILL), noise=1), []
    one.bind(3)
    for _ in range(2):
        for array in matrices_of(one).values():
            array[...] = 0
        one.step(*batch())
        for name in ("2_hidden", "2_project", "3_hidden", "3_project"):
            learned = one.state.arrays[f"feedback.{name}.weight"]
            weight = one.model.packed_parameters[f"{name}.weight"].packed
            square = learned[0, :, :WIDTH] @ np.linalg.inv(weight[0, :, :WIDTH])
            seen.append(tuple(np.sign(square[0]).astype(int)))
    assert len(set(seen)) == len(seen)


def test_matrices_follow_the_weights_in_training():
    one = trainer_of(network(*MODELS["sequential"]), fg.Adam(2e-3))
    for step in range(80):
        one.step(*batch(step))
    x, y = batch(80)
    found = one.estimate(x, y)
    know(one, len(x))
    for name, exact in one.estimate(x, y).items():
        g, h = found[name].ravel().astype(np.float64), exact.ravel().astype(np.float64)
        assert g @ h >= ALIGNED * np.linalg.norm(g) * np.linalg.norm(h), name


def linear(*activations):
    """Return a model of two blocks with attention, and dense layers beside and behind it."""
    nodes = [fg.Node("e", fg.Embedding(SYMBOLS, WIDTH))]
    stem = "e"
    for number, activation in enumerate(activations):
        add = [
            ("n", fg.LayerNorm(), stem),
            ("a", fg.SelfAttention(2), None),
            ("h", fg.Dense(5, activation), f"n{number}"),
            ("p", fg.Dense(WIDTH), None),
            ("s", fg.Add(), (stem, f"a{number}", f"p{number}")),
            ("m", fg.RMSNorm(), None),
            ("i", fg.Dense(9, activation, bias=False), None),
            ("q", fg.Dense(WIDTH), None),
            ("t", fg.Add(), (f"s{number}", f"q{number}")),
        ]
        nodes += [fg.Node(f"{name}{number}", layer, inputs) for name, layer, inputs in add]
        stem = f"t{number}"
    model = fg.Graph([*nodes, fg.Node("out", fg.Dense(SYMBOLS))], (LENGTH,), seed=1, device="cpu")
    moved(model, np.random.default_rng(1))
    return model


def test_without_relays_gradients_are_exact_where_hidden_units_are_linear():
    x, y = batch()
    norms = check(linear("identity", "identity"), x, y, GRADIENT, share=0.0, relayed=False)
    assert min(norms.values()) > 0


def test_without_relays_the_matrix_of_a_branch_learns_the_product_of_its_weights():
    """It learns at a tenth of the rate: squares shrink to 0.879 in a step, and 250 leave 10⁻¹⁴. Confidence as above."""
    one = trainer_of(linear("identity"), fg.SGD(STILL), relayed=False)
    for _ in range(250):
        one.step(*batch())
    found = distances(one)
    assert {"feedback.h0.branch", "feedback.i0.branch"} <= set(found)
    assert max(found.values()) <= LEARNED_SLOWLY**2


def test_without_relays_the_matrix_of_a_branch_learns_the_mean_response():
    model = linear("tanh")
    one = trainer_of(model, fg.SGD(STILL), relayed=False)
    x, y = batch()
    means = 0.0
    for step in range(500):
        one.step(x, y)
        if step >= 100:
            means = means + one.state.arrays["feedback.h0.branch"] / 400
    p = {name: array.astype(np.float64) for name, array in model.parameters().items()}
    hidden = fg.Graph(model.nodes[:2], (LENGTH,), device="cpu")
    hidden.load_parameters({name: model.parameters()[name] for name in hidden.parameters()})
    slopes = 1 - np.tanh(hidden(x).astype(np.float64) @ p["h0.weight"] + p["h0.bias"]) ** 2
    exact = packed(p["h0.weight"] * slopes.mean((0, 1)) @ p["p0.weight"])
    assert np.linalg.norm(means - exact) <= AVERAGED * np.linalg.norm(exact)


LOSSES = {
    "smoothed": (
        fg.SoftmaxCrossEntropy(0.2),
        lambda z, y: cross_entropy_slope(z, y) + smoothing(z, y) / len(y),
    ),
    "classes": (
        fg.SoftmaxCrossEntropy(class_weight=(1, 2, 3, 4, 0.5)),
        lambda z, y: cross_entropy_slope(z, y) * np.array([1, 2, 3, 4, 0.5])[y][:, None],
    ),
    "squares": (fg.MeanSquaredError(), square_slope),
    "huber": (fg.Huber(0.7), lambda z, y: np.clip(z - y, -0.7, 0.7) / y.size),
    "binary": (fg.BinaryCrossEntropy(), lambda z, y: (1 / (1 + np.exp(-z)) - y) / y.size),
}


def smoothing(z, y):
    """Return what smoothing by 0.2 adds to the targets' negative: 0.2 (onehot - 1 / N)."""
    return 0.2 * (np.eye(z.shape[1])[y] - 1 / z.shape[1])


@pytest.mark.parametrize("name", LOSSES)
def test_every_block_has_the_loss_of_the_model(name):
    loss, slope = LOSSES[name]
    x, y = batch()
    if not loss.takes_labels:
        y = np.random.default_rng(3).random((*y.shape, SYMBOLS)).astype(np.float32)
    check(network(*MODELS["parallel"]), x, y, GRADIENT, loss, slope, share=0.0)


def test_an_activation_of_ones_own_is_that_of_its_formula():
    found = []
    for activation in ("silu", fg.activation(own_functions.swish)):
        one = trainer_of(network(fg.TransformerBlock(2, activation=activation), fg.TransformerBlock(2)))
        know(one, 3)
        one.step(*batch())
        found.append(gradients_of(one))
    for name, g in found[0].items():
        assert np.linalg.norm(found[1][name] - g) <= GRADIENT * np.linalg.norm(g), name


def test_a_gradient_of_a_step_has_nothing_of_the_step_before():
    one = trainer_of(network(*MODELS["sequential"]), fg.SGD(STILL))
    know(one, 3)
    x, y = batch()
    one.step(x, y)
    one.step(x % 2, y)
    other = trainer_of(network(*MODELS["sequential"]), fg.SGD(STILL))
    for name, array in matrices_of(one).items():
        other.state.array(name, array.shape)[...] = array
    other.steps_done = 2
    again, fresh = one.estimate(x % 2, y), other.estimate(x % 2, y)
    assert not again["0.weight"][2:].any()
    for name, g in fresh.items():
        np.testing.assert_array_equal(again[name], g, name)


def test_noise_on_queries_keys_and_values_has_the_closed_form_as_its_mean():
    """With a confidence of 1 - 10⁻⁶ for all entries together; what is behind attention is told without noise."""
    model, (x, y) = network(fg.TransformerBlock(2, hidden=3, key_heads=1)), batch()
    exact = trainer_of(model, fg.SGD(STILL))
    know(exact, len(x))
    expected = exact.estimate(x, y)
    check_estimator(
        fg.BlockFeedback(attention="noise"),
        model,
        x=np.repeat(x, 4, axis=0),
        y=np.repeat(y, 4, axis=0),
        gradient=expected,
        draws=300,
        bias=1e-4,
    )


def test_the_model_of_one_block_is_told_its_gradient():
    model, (x, y) = network(*SQUARE[:1]), batch()
    _, exact = reverse.value_and_grad(model, fg.SoftmaxCrossEntropy(), x, y)
    check_estimator(
        fg.BlockFeedback(),
        model,
        x=np.repeat(x, 4, axis=0),
        y=np.repeat(y, 4, axis=0),
        gradient=exact,
        draws=3,
        bias=1e-4,
    )


def test_statements_say_what_is_estimated():
    assert fg.BlockFeedback().statement.endswith("once its feedback is learned")
    assert fg.BlockFeedback(relayed=False).statement.endswith("by the mean response of its dense layers")
    assert not fg.BlockFeedback().unbiased


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0}, "rate is 0"),
        ({"rate": 1.5}, "rate is 1.5; at most 1 is required"),
        ({"rate": math.nan}, "rate is nan"),
        ({"noise": 0}, "noise is 0"),
        ({"noise": 1.5}, "noise is 1.5"),
        ({"relayed": 2}, "relayed is 2"),
        ({"attention": "exact"}, "attention is 'exact'; 'closed-form' or 'noise' is required"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(fg.ConfigError, match=message):
        fg.BlockFeedback(**settings)
