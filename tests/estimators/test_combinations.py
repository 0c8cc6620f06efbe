"""Combinations of directions in weight perturbation: projections, orthogonal families, control variates, clipping."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.kernels.emit import vector
from tests import tolerances
from tests.estimators.test_estimators import flat

LOSS = fg.SoftmaxCrossEntropy()
KINDS = ["rank1", "orthogonal", "rademacher", "gaussian"]


def problem(seed=0):
    model = fg.Graph(
        [
            fg.Node("conv", fg.Conv2d(6, 2, groups=2, activation="tanh")),
            fg.Node("norm", fg.LayerNorm()),
            fg.Node("flat", fg.Flatten()),
            fg.Node("hidden", fg.Dense(37, activation="tanh")),
            fg.Node("out", fg.Dense(5)),
        ],
        (4, 3, 4),
        seed=seed,
    )
    rng = np.random.default_rng(seed)
    return model, rng.standard_normal((7, 4, 3, 4), np.float32), rng.integers(0, 5, 7)


def drawn(model, direction, count, seed, step):
    kind = fg.directions.BY_NAME[direction]
    return np.array([flat(kind(seed, step, t).materialize(model)) for t in range(count)])


def estimated(model, x, y, estimator, seed=3, step=2):
    trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(1.0), seed=seed)
    trainer.steps_done = step
    return flat(trainer.estimate(x, y))


@pytest.mark.parametrize("name", vector.executable())
@pytest.mark.parametrize("direction", KINDS)
@pytest.mark.parametrize("count", [1, 3, 40])
def test_projection_against_float64(direction, count, name, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    model, x, y = problem()
    v = drawn(model, direction, count, 3, 2)
    _, exact = reverse.value_and_grad(model, LOSS, x, y)
    gradient = flat(exact)
    expected = gradient.size / count * v.T @ np.linalg.solve(v @ v.T, v @ gradient)
    found = estimated(model, x, y, fg.WeightPerturbation(direction, count, "projected"))
    assert np.linalg.norm(found - expected) < tolerances.PROJECTED * np.linalg.norm(expected)


@settings(max_examples=20)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 9),
    *(st.one_of(st.integers(1, 70), st.sampled_from([1, 31, 33, 97])) for _ in range(2)),
    st.integers(1, 13),
)
def test_projection_of_any_shape(direction, count, inputs, units, batch):
    model = fg.Sequential([fg.Dense(units, activation="tanh"), fg.Dense(3)], inputs, seed=1)
    rng = np.random.default_rng(batch)
    x, y = rng.standard_normal((batch, inputs), np.float32), rng.integers(0, 3, batch)
    v = drawn(model, direction, count, 3, 2)
    _, exact = reverse.value_and_grad(model, LOSS, x, y)
    gradient = flat(exact)
    # A least-squares solution: a few parameters have dependent directions.
    gram = v @ v.T
    rank = np.linalg.matrix_rank(gram)
    expected = gradient.size / rank * v.T @ np.linalg.lstsq(gram, v @ gradient, rcond=tolerances.GRAM_RANK)[0]
    found = estimated(model, x, y, fg.WeightPerturbation(direction, count, "projected"))
    bound = tolerances.PROJECTED_ANY * np.linalg.norm(gradient) * gradient.size / rank
    assert np.linalg.norm(found - expected) < bound


def test_as_many_directions_as_parameters_give_the_gradient():
    model = fg.Sequential([fg.Dense(3, activation="tanh"), fg.Dense(2)], 4, seed=1)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 4), np.float32), rng.integers(0, 2, 5)
    _, exact = reverse.value_and_grad(model, LOSS, x, y)
    P = model.parameter_count
    found = estimated(model, x, y, fg.WeightPerturbation("gaussian", P, "projected"))
    tolerances.PROJECTED_ALL.check(found, flat(exact))


def test_dependent_directions_are_left_out():
    # Two parameters have two sign directions up to sign; six of them are dependent, and span everything.
    model = fg.Sequential([fg.Dense(1, bias=False)], 2)
    x, y = np.array([[1.0, 2.0]], np.float32), np.array([[3.0]], np.float32)
    trainer = fg.Trainer(
        model,
        loss=fg.MeanSquaredError(),
        estimator=fg.WeightPerturbation("rademacher", 6, "projected"),
        optimizer=fg.SGD(1.0),
    )
    _, exact = reverse.value_and_grad(model, fg.MeanSquaredError(), x, y)
    found = trainer.estimate(x, y)
    tolerances.MODEL_LOSS.check(found["0.weight"], exact["0.weight"])


def test_orthogonal_directions_are():
    model = fg.Sequential([fg.Dense(64, activation="tanh"), fg.Dense(32)], 7, seed=1)
    v = drawn(model, "orthogonal", 64, 5, 0)
    gram = v @ v.T
    P = model.parameter_count
    for family in (gram[:32, :32], gram[32:, 32:]):
        np.testing.assert_array_equal(family, P * np.eye(32))
    assert np.abs(gram[:32, 32:]).max() < P
    np.testing.assert_array_equal(v[32], flat(fg.directions.RankOne(5, 0, 32).materialize(model)))


@pytest.mark.parametrize("direction", KINDS)
def test_a_control_variate_is_put_back(direction):
    model, x, y = problem()
    _, exact = reverse.value_and_grad(model, LOSS, x, y)
    gradient = flat(exact)
    estimator = fg.WeightPerturbation(direction, 3, control=1.9)
    rate = 1.9 * 3 / gradient.size
    trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(1e-20), seed=3)
    h = np.zeros_like(gradient)
    for step in range(4):
        v = drawn(model, direction, 3, 3, step)
        expected = h + ((gradient - h) @ v.T) @ v / 3
        found = flat(trainer.estimate(x, y))
        assert np.linalg.norm(found - expected) < tolerances.PROJECTED * np.linalg.norm(expected)
        again = flat(trainer.estimate(x, y))
        np.testing.assert_array_equal(found, again)
        trainer.step(x, y)
        h += rate * (expected - h)


def test_clipping_shortens():
    model, x, y = problem()
    free = estimated(model, x, y, fg.WeightPerturbation())
    _, d = fg.jvp(model, LOSS, x, y, fg.directions.RankOne(3, 2))
    found = estimated(model, x, y, fg.WeightPerturbation(clip=abs(d) / 2))
    tolerances.CARRIED.check(found, free / 2)
    same = estimated(model, x, y, fg.WeightPerturbation(clip=abs(d) * 2))
    tolerances.CARRIED.check(same, free)
    assert not fg.WeightPerturbation(clip=1.0).unbiased


@pytest.mark.parametrize("optimizer", [fg.SGD(0.05), fg.SGD(0.05, momentum=0.5), fg.Adam(0.01)])
@pytest.mark.parametrize("more", [{}, {"combine": "projected"}, {"control": 0.1}, {"clip": 10.0}])
def test_steps_follow_the_estimate(optimizer, more):
    model, x, y = problem()
    trainer = fg.Trainer(
        model, estimator=fg.WeightPerturbation("rank1", 2, **more), optimizer=optimizer, seed=3
    )
    estimate = trainer.estimate(x, y)
    before = model.parameters()
    trainer.step(x, y)
    for name, array in model.parameters().items():
        g = estimate[name]
        step = 0.01 * np.sign(g) if isinstance(optimizer, fg.Adam) else 0.05 * g
        tolerances.WEIGHT_STEP.check(array, before[name] - step, name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"combine": "sum"}, "combine is 'sum'; 'mean' or 'projected'"),
        ({"combine": "projected", "directions": 2000}, "a projection takes at most 1024"),
        ({"control": 2.0}, "control is 2.0"),
        ({"clip": 0.0}, "clip is 0.0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(fg.ConfigError, match=message):
        fg.WeightPerturbation(**settings)
