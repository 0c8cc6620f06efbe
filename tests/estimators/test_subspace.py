"""Gauss-Newton steps in the span of random directions: exact where theory says so, damped, kept and refused."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.kernels.ops.gauss_newton import LAMBDA
from tests import curvature_cases, tolerances
from tests.estimators.test_estimators import flat

KINDS = ["rank1", "orthogonal", "rademacher", "gaussian"]


def linear(inputs, outputs, batch, seed=0):
    """Return a linear model with its squared error, data, and the least-squares solution in float64."""
    model = fg.Sequential([fg.Dense(outputs)], inputs, seed=seed)
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal((batch, n), np.float32) for n in (inputs, outputs))
    with_bias = np.c_[x, np.ones(batch)].astype(np.float64)
    return model, x, y, np.linalg.lstsq(with_bias, y.astype(np.float64))[0]


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 1), (2, 2), (7, 4), (31, 1)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_step_reaches_the_minimum_of_a_quadratic(inputs, outputs, seed):
    model, x, y, best = linear(inputs, outputs, 97, seed)
    estimator = fg.SubspaceGaussNewton("gaussian", model.parameter_count, damping=0)
    trainer = fg.Trainer(
        model, loss=fg.MeanSquaredError(), estimator=estimator, optimizer=fg.SGD(1.0), seed=seed
    )
    trainer.step(x, y)
    found = model.parameters()
    solution = np.r_[found["0.weight"], found["0.bias"][None]]
    tolerances.MINIMUM_OF_A_QUADRATIC.check(solution, best)


@pytest.mark.parametrize("direction", KINDS)
@pytest.mark.parametrize("name", curvature_cases.LOSSES)
def test_a_step_against_float64(direction, name):
    count, width, batch, damping = 9, 5, 23, 0.5
    model = fg.Sequential([fg.Dense(11, activation="tanh"), fg.Dense(width)], 6, seed=2)
    loss, y, labels, weights = curvature_cases.problem(name, width, batch, False)
    x = np.random.default_rng(1).standard_normal((batch, 6), np.float32)
    estimator = fg.SubspaceGaussNewton(direction, count, damping=damping)
    trainer = fg.Trainer(model, loss=loss, estimator=estimator, optimizer=fg.SGD(1.0), seed=3)
    found = flat(trainer.estimate(x, y))

    kind = fg.directions.BY_NAME[direction]
    drawn = [kind(3, 0, t).materialize(model) for t in range(count)]
    v = np.array([flat(one) for one in drawn])
    z = np.zeros((1 + count, batch, width))
    z[0] = model(x)
    for t, one in enumerate(drawn):
        z[1 + t] = network_tangent(model.parameters(), one, x)
    gram = curvature_cases.gauss_newton(name, z, width, labels, weights)
    _, exact = reverse.value_and_grad(model, loss, x, y)
    damped = gram + damping * np.trace(gram) / count * np.eye(count)
    expected = v.T @ np.linalg.solve(damped, v @ flat(exact))
    assert np.linalg.norm(found - expected) < tolerances.PROJECTED * np.linalg.norm(expected)


def network_tangent(parameters, v, x):
    """Return the tangent of the outputs of two dense layers with tanh, in float64."""
    p = {name: value.astype(np.float64) for name, value in parameters.items()}
    hidden = np.tanh(x @ p["0.weight"] + p["0.bias"])
    moved = (1 - hidden**2) * (x @ v["0.weight"] + v["0.bias"])
    return moved @ p["1.weight"] + hidden @ v["1.weight"] + v["1.bias"]


def digits(estimator, optimizer, steps=120, batch=64, seed=0):
    data = fg.datasets.load("digits")
    model = fg.Sequential(
        [fg.Flatten(), fg.Dense(32, "tanh"), fg.Dense(10)], data.x_train.shape[1:], seed=seed
    )
    trainer = fg.Trainer(model, estimator=estimator, optimizer=optimizer, seed=seed)
    rng, losses = np.random.default_rng(seed), []
    for _ in range(steps):
        chosen = rng.integers(0, len(data.x_train), batch)
        losses.append(trainer.step(data.x_train[chosen], data.y_train[chosen]).loss)
    return trainer, np.array(losses)


def test_it_learns_faster_than_the_mean_of_the_same_directions():
    _, newton = digits(fg.SubspaceGaussNewton(directions=64), fg.SGD(0.4, momentum=0.9))
    best = min(
        digits(fg.WeightPerturbation(directions=64), fg.SGD(rate, momentum=0.9))[1][-20:].mean()
        for rate in (0.003, 0.01, 0.03)
    )
    assert newton[-20:].mean() < best


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_damping_falls_where_steps_are_short_and_rises_where_they_are_long(momentum):
    short, _ = digits(
        fg.SubspaceGaussNewton(directions=16, damping=1000, adaptation=0.1), fg.SGD(0.1, momentum=momentum)
    )
    long, _ = digits(
        fg.SubspaceGaussNewton(directions=16, damping=0.01, adaptation=0.1), fg.SGD(0.5, momentum=momentum)
    )
    first, _ = digits(fg.SubspaceGaussNewton(directions=16, damping=1), fg.SGD(0.1), steps=1)
    unit = first.state.arrays["gauss-newton"][LAMBDA]
    assert short.state.arrays["gauss-newton"][LAMBDA] < 500 * unit
    assert long.state.arrays["gauss-newton"][LAMBDA] > 0.02 * unit


@pytest.mark.parametrize(
    "optimizer", [fg.Adam(1e-3), fg.SGD(0.1, momentum=0.9, nesterov=True), fg.SGD(0.1, clip_norm=1.0)]
)
def test_damping_stays_with_other_optimizers(optimizer):
    trainer, _ = digits(fg.SubspaceGaussNewton(directions=8, adaptation=0.1), optimizer, steps=1)
    before = trainer.state.arrays["gauss-newton"].copy()
    data = fg.datasets.load("digits")
    for _ in range(5):
        trainer.step(data.x_train[:64], data.y_train[:64])
    np.testing.assert_array_equal(trainer.state.arrays["gauss-newton"], before)


def test_momentum_of_zero_is_plain_descent():
    kept, _ = digits(fg.SubspaceGaussNewton(directions=8, adaptation=0.0), fg.SGD(0.1), steps=20)
    moved, _ = digits(fg.SubspaceGaussNewton(directions=8, adaptation=1e-30), fg.SGD(0.1), steps=20)
    for name, value in kept.model.parameters().items():
        np.testing.assert_array_equal(moved.model.parameters()[name], value)


def test_a_loss_without_a_known_second_derivative_is_refused():
    loss = fg.Loss.from_function(lambda z, y: (z[0] - y[0]) ** 2)
    model = fg.Sequential([fg.Dense(1)], 3)
    trainer = fg.Trainer(
        model, loss=loss, estimator=fg.SubspaceGaussNewton(directions=2), optimizer=fg.SGD(0.1)
    )
    with pytest.raises(fg.ConfigError, match=r"second derivative .* not known; .* bind_curvature"):
        trainer.step(np.zeros((4, 3), np.float32), np.zeros((4, 1), np.float32))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"directions": 1025}, "directions is 1025; .*1024"),
        ({"damping": -1}, "damping is -1"),
        ({"adaptation": 1.0}, "adaptation is 1"),
        ({"direction": "rank2"}, "rank2"),
    ],
)
def test_impossible_settings_are_refused(given, message):
    with pytest.raises(fg.ConfigError, match=message):
        fg.SubspaceGaussNewton(**given)
