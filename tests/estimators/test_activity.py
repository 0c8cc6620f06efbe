"""Activity perturbation against float64, noise and all; what its layout must keep; what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.estimators.activity import rules
from fgnumba.kernels.emit import vector
from tests import tolerances
from tests.kernels.test_activations import REFERENCES
from tests.model.test_jvp import off_kinks
from tests.references.activity_reference import estimate

LOSS = fg.SoftmaxCrossEntropy()


def problem(layers, inputs, batch, seed):
    rng = np.random.default_rng(seed)
    model = fg.Sequential(layers, inputs, seed=seed)
    x = off_kinks(layers, model.parameters(), (batch, inputs), rng)
    return model, x, rng.integers(0, layers[-1].units, batch)


def close(found, expected):
    norm = np.sqrt(sum(float(np.sum(expected[name] ** 2)) for name in found))
    for name, array in found.items():
        error = float(np.linalg.norm(array - expected[name]))
        bound = tolerances.ESTIMATE * norm + tolerances.NOISE_ALONE["activity"]
        assert error <= bound, f"{name}: {error:.3g} over a bound of {bound:.3g}"


def matrices(trainer, layers):
    """Return B (N, C) of each hidden layer, as the trainer keeps it."""
    classes = layers[-1].units
    return {
        index: np.concatenate(list(trainer.state.arrays[f"feedback.{index}.0"]), axis=1)[:, :classes].astype(
            np.float64
        )
        for index in range(len(layers) - 1)
    }


@st.composite
def perceptrons(draw):
    widths = st.one_of(st.integers(1, 70), st.sampled_from([31, 32, 33, 64, 97]))
    activations = st.sampled_from(sorted(REFERENCES))
    hidden = [
        fg.Dense(draw(widths), activation=draw(activations), bias=draw(st.booleans()))
        for _ in range(draw(st.integers(1, 3)))
    ]
    return [*hidden, fg.Dense(draw(st.integers(1, 40)))]


@settings(max_examples=40)
@given(
    perceptrons(),
    st.integers(1, 50),
    st.integers(1, 40),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 2**40),
)
def test_estimate_of_any_perceptron(layers, inputs, batch, draws, layerwise, seed):
    model, x, y = problem(layers, inputs, batch, seed % 2**32)
    trainer = fg.Trainer(
        model, estimator=fg.ActivityPerturbation(draws, layerwise), optimizer=fg.SGD(1.0), seed=seed
    )
    trainer.steps_done = 3
    expected = estimate(layers, model.parameters(), x, y, seed, 3, draws=draws, layerwise=layerwise)
    close(trainer.estimate(x, y), expected.gradient)


@settings(max_examples=30)
@given(
    perceptrons(),
    st.integers(1, 40),
    st.integers(1, 2),
    st.booleans(),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_feedback_of_any_perceptron(layers, batch, draws, layerwise, control, local, seed):
    model, x, y = problem(layers, 20, batch, seed)
    feedback = fg.Feedback(0.7, control=control)
    losses = fg.LocalLosses() if local else None
    if local:
        # A layer without an activation ends no block.
        hidden = [replace(la, activation="tanh") if la.activation == "identity" else la for la in layers[:-1]]
        layers = [*hidden, layers[-1]]
        model, x, y = problem(layers, 20, batch, seed)
    trainer = fg.Trainer(
        model,
        estimator=fg.ActivityPerturbation(draws, layerwise, feedback, losses),
        optimizer=fg.SGD(1e-3),
        seed=seed,
    )
    for _ in range(3):
        trainer.step(x, y)
    x = off_kinks(layers, model.parameters(), x.shape, np.random.default_rng(seed))
    known = matrices(trainer, layers)
    heads = None
    if local:
        own = trainer.state.parameters
        heads = {
            index: (own[f"head.{index}.0.weight"].array(), own[f"head.{index}.0.bias"].array())
            for index in range(len(layers) - 2)
        }
    expected = estimate(
        layers,
        model.parameters(),
        x,
        y,
        seed,
        3,
        draws=draws,
        layerwise=layerwise,
        feedback=known,
        control=control,
        rate=0.7,
        heads=heads,
    )
    close(trainer.estimate(x, y), expected.gradient)
    for index, matrix in matrices(trainer, layers).items():
        np.testing.assert_array_equal(matrix, known[index])
    before = {name: p.array() for name, p in trainer.state.parameters.items()}
    trainer.step(x, y)
    for index, matrix in matrices(trainer, layers).items():
        tolerances.FEEDBACK.check(matrix, expected.feedback[index])
    for name, parameter in trainer.state.parameters.items():
        step = before[name] - 1e-3 * expected.gradient[name]
        tolerances.ACTIVITY_STEP.check(parameter.array(), step, name)


@pytest.mark.parametrize("name", vector.executable())
@pytest.mark.parametrize("activation", sorted(REFERENCES))
def test_every_activation_on_every_instruction_set(name, activation, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    layers = [fg.Dense(67, activation=activation), fg.Dense(41, activation=activation), fg.Dense(7)]
    model, x, y = problem(layers, 13, 21, 1)
    trainer = fg.Trainer(model, estimator=fg.ActivityPerturbation(2), optimizer=fg.SGD(1.0), seed=5)
    close(trainer.estimate(x, y), estimate(layers, model.parameters(), x, y, 5, 0, draws=2).gradient)


@pytest.mark.parametrize("layerwise", [False, True])
def test_noise_of_one_example_is_a_direction_of_the_biases(layerwise):
    # Of one example and one pixel, noise on a layer is a tangent of its bias: d is the loss's derivative along it.
    model = fg.Sequential(
        [fg.Dense(19, activation="tanh"), fg.Dense(9, activation="sigmoid"), fg.Dense(4)], 7, seed=2
    )
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((1, 7), np.float32), rng.integers(0, 4, 1)
    trainer = fg.Trainer(
        model, estimator=fg.ActivityPerturbation(layerwise=layerwise), optimizer=fg.SGD(1.0), seed=9
    )
    g = trainer.estimate(x, y)
    biases = [name for name in g if name.endswith("bias") and not name.startswith("2")]
    for chosen in [[name] for name in biases] if layerwise else [biases]:
        d = g[chosen[0]][0]
        tangents = {name: np.sign(g[name]) if name in chosen else np.zeros_like(g[name]) for name in g}
        _, derivative = fg.jvp(model, LOSS, x, y, tangents)
        for name in chosen:
            tolerances.CARRIED.check(np.abs(g[name]), abs(d), name)
        tolerances.ALONG_NOISE.check(abs(derivative), abs(d))


@pytest.mark.parametrize("groups", [1, 2])
def test_local_heads_are_cut_off_from_each_other(groups):
    # The first block's gradient does not depend on what comes after it.
    def gradient(units):
        model = fg.Sequential(
            [fg.Dense(64, activation="relu"), fg.Dense(units, activation="relu"), fg.Dense(4)], 6, seed=3
        )
        estimator = fg.ActivityPerturbation(local=fg.LocalLosses(groups=groups))
        trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(0.1), seed=1)
        for parameter in trainer.state.parameters.values():
            rng = np.random.default_rng(len(parameter.name))
            parameter.assign(rng.standard_normal(parameter.shape).astype(np.float32))
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((9, 6), np.float32), rng.integers(0, 4, 9)
        return trainer.estimate(x, y)["0.weight"]

    first = gradient(64 * groups)
    assert np.abs(first).max() > 0
    np.testing.assert_array_equal(first, gradient(128 * groups))


@pytest.mark.parametrize("local", [None, fg.LocalLosses()])
def test_steps_without_noise_use_feedback_as_it_is(local):
    layers = [fg.Dense(40, activation="relu"), fg.Dense(33, activation="tanh"), fg.Dense(5)]
    model, x, y = problem(layers, 9, 12, 0)
    found = []
    for every in (1, 3):
        model.load_parameters(fg.Sequential(layers, 9, seed=0).parameters())
        feedback = fg.Feedback(0.7, control=0.0, every=every)
        estimator = fg.ActivityPerturbation(feedback=feedback, local=local)
        trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(0.01), seed=4)
        first = trainer.step(x, y)
        assert first.directional_derivative != 0
        known = matrices(trainer, layers)
        estimates = trainer.estimate(x, y)
        second = trainer.step(x, y)
        assert (second.directional_derivative == 0) == (every == 3)
        changed = any((known[index] != matrix).any() for index, matrix in matrices(trainer, layers).items())
        assert changed == (every == 1)
        found.append((estimates, model.parameters()))
    for one, other in zip(*found, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(array, other[name])


def test_feedback_learns_a_head_exactly():
    # A local head's response to noise is linear in it: the filter finds its weights, and noise has nothing to add.
    model = fg.Sequential(
        [fg.Dense(64, activation="relu"), fg.Dense(8, activation="relu"), fg.Dense(3)], 6, seed=3
    )
    estimator = fg.ActivityPerturbation(feedback=fg.Feedback(1.0), local=fg.LocalLosses())
    trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(1e-12), seed=1)
    head = trainer.state.parameters["head.0.0.weight"]
    rng = np.random.default_rng(0)
    head.assign(rng.standard_normal(head.shape).astype(np.float32))
    for _ in range(300):
        trainer.step(rng.standard_normal((32, 6)), rng.integers(0, 3, 32))
    learned = trainer.state.arrays["feedback.0.0"][0, :, :3]
    tolerances.LEARNED_HEAD.check(learned, head.array())


def test_a_loss_that_is_not_finite_moves_nothing():
    model = fg.Sequential([fg.Dense(8, activation="relu"), fg.Dense(3)], 4)
    trainer = fg.Trainer(
        model, estimator=fg.ActivityPerturbation(feedback=fg.Feedback()), optimizer=fg.Adam(0.1)
    )
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 4), np.float32), rng.integers(0, 3, 5)
    trainer.step(x, y)
    before = model.parameters()
    state = {name: array.copy() for name, array in trainer.state.arrays.items()}
    with pytest.raises(fg.DatasetError, match="x is not finite"):
        trainer.step(np.where(x == x[0, 0], np.nan, x), y)
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])
    for name, array in trainer.state.arrays.items():
        np.testing.assert_array_equal(array, state[name])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fg.ActivityPerturbation(0), "draws is 0"),
        (lambda: fg.ActivityPerturbation(layerwise=1), "layerwise is 1"),  # type: ignore[arg-type]
        (lambda: fg.ActivityPerturbation(feedback=0.1), "feedback is 0.1; a Feedback or None"),  # type: ignore[arg-type]
        (lambda: fg.ActivityPerturbation(local=True), "local is True; a LocalLosses or None"),  # type: ignore[arg-type]
        (lambda: fg.Feedback(0), "feedback: rate is 0"),
        (lambda: fg.Feedback(2.5), "at most 2 with the rule 'filter'"),
        (lambda: fg.Feedback(1.5, "average"), "at most 1 with the rule 'average'"),
        (lambda: fg.Feedback(rule="mean"), "rule is 'mean'; 'filter' or 'average'"),
        (lambda: fg.Feedback(control=1.5), "control is 1.5; a number from 0 to 1"),
        (lambda: fg.Feedback(cells=0), "cells is 0"),
        (lambda: fg.Feedback(control=0.0, every=0), "every is 0"),
        (lambda: fg.Feedback(every=2), "every is 2; 1 is required unless control is 0"),
        (lambda: fg.LocalLosses(cells=0), "cells is 0"),
        (lambda: fg.LocalLosses(groups=0), "groups is 0"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(fg.ConfigError, match=message):
        make()


def test_models_that_cannot_be_trained_so_are_refused():
    def step(layers, estimator):
        trainer = fg.Trainer(fg.Sequential(layers, 5), estimator=estimator, optimizer=fg.SGD(0.1))
        trainer.step(np.zeros((2, 5)), np.zeros(2, int))

    with pytest.raises(fg.ConfigError, match="activation 'tanh' of the output layer"):
        step([fg.Dense(3, activation="tanh")], fg.ActivityPerturbation())
    groups = fg.ActivityPerturbation(local=fg.LocalLosses(groups=2))
    with pytest.raises(
        fg.ConfigError, match="'0': 40 channels cannot be cut into 2 groups of a multiple of 32"
    ):
        step([fg.Dense(40, "relu"), fg.Dense(8, "relu"), fg.Dense(3)], groups)
    with pytest.raises(fg.ConfigError, match="'0': not the only layer with parameters in its block"):
        step([fg.Dense(64), fg.Dense(64, "relu"), fg.Dense(8, "relu"), fg.Dense(3)], groups)
    with pytest.raises(fg.ConfigError, match="nothing can be trained"):
        step([fg.Activation("relu")], fg.ActivityPerturbation())


def test_a_layer_of_ones_own_is_trained_once_it_has_a_rule(monkeypatch):
    class Own(fg.Dense):
        """A dense layer of another class."""

    def estimated(kind):
        layers = [kind(33, activation="relu"), fg.Dense(17, activation="tanh"), fg.Dense(3)]
        model, x, y = problem(layers, 7, 5, 1)
        trainer = fg.Trainer(
            model, estimator=fg.ActivityPerturbation(2), optimizer=fg.SGD(1e-3, momentum=0.5), seed=3
        )
        return trainer.estimate(x, y)

    missing = r"^layer .0.: Own has parameters that .* cannot train; a rule in \S+\.RULES is missing$"
    with pytest.raises(fg.ConfigError, match=missing):
        estimated(Own)
    monkeypatch.setitem(rules.RULES, Own, rules.RULES[fg.Dense])
    expected = estimated(fg.Dense)
    for name, array in estimated(Own).items():
        np.testing.assert_array_equal(array, expected[name])
