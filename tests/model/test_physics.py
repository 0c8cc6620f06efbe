"""Losses of differential equations: derivatives against float64, and equations with a known solution."""

import math
import pickle
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from tests import tolerances_input as tolerances
from tests.model.test_laplacian import expected, network, points


def nonlinear(x, u, du, lap):
    """Return a residual in which everything occurs, with a branch on the point."""
    if x[0] > 0.0:
        return lap + u**3 - math.sin(x[1]) * du[0]
    return 2.0 * u * du[1] - x[0]


def nonlinear_jvp(x, rows, moved):
    """Return r (B,) and dr (T, B) of `nonlinear` from (B, 2 + k) and (T, B, 2 + k), in NumPy."""
    u, first, second, lap = rows.T
    du, dfirst, dsecond, dlap = np.moveaxis(moved, -1, 0)
    inside = x[:, 0] > 0
    r = np.where(inside, lap + u**3 - np.sin(x[:, 1]) * first, 2 * u * second - x[:, 0])
    dr = np.where(inside, dlap + 3 * u**2 * du - np.sin(x[:, 1]) * dfirst, 2 * (du * second + u * dsecond))
    return r, dr


def pair(x, u, du, lap):
    """Return a residual of a network of two outputs."""
    return u[0] * lap[1] + du[0, 1] * du[1, 0]


def arrays(model, rng):
    return {
        name: rng.standard_normal(array.shape).astype(np.float32)
        for name, array in model.parameters().items()
    }


def close(found, wanted, what):
    error, size = np.abs(found - wanted).max(), np.abs(wanted).max()
    assert error <= tolerances.PHYSICS * size, (what, error, size)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "softplus"])
@pytest.mark.parametrize("batch", [1, 13, 300])
def test_residuals_and_their_derivatives(activation, batch):
    model = network((2, 13, 17, 1), activation)
    x, loss, rng = points(model, batch), fg.PhysicsLoss(model, nonlinear), np.random.default_rng(3)
    v = [arrays(model, rng), fg.directions.RankOne(4, 2), fg.directions.Gaussian(5)]
    r, dr = loss.residual_jvp(x, v)
    moves = [v[0], v[1].materialize(model), v[2].materialize(model)]
    rows = expected(model, x, np.eye(2), np.ones(2), moves)[..., 0]
    wanted, derivatives = nonlinear_jvp(x.astype(np.float64), rows[0], rows[1:])
    assert r.dtype == dr.dtype == np.float64
    close(r, wanted, "residuals")
    close(dr, derivatives, "derivatives")
    np.testing.assert_array_equal(loss.residuals(x), r)
    value, derivative = loss.jvp(x, v[1])
    assert value == loss(x) == np.mean(r * r)
    assert derivative == 2 * np.mean(r * loss.residual_jvp(x, v[1:2])[1][0])
    assert loss.forward_gradient(x, v[1])[0] == value
    for name, array in loss.forward_gradient(x, v[1])[1].items():
        np.testing.assert_array_equal(array, np.float32(derivative) * moves[1][name])


def test_several_outputs_and_directions():
    model, rng = network((3, 9, 2), "silu"), np.random.default_rng(3)
    directions, weights = rng.standard_normal((2, 3)).astype(np.float32), np.array([1, -0.5], np.float32)
    x, v = points(model, 7), arrays(model, rng)
    loss = fg.PhysicsLoss(model, pair, directions=directions, weights=weights)
    r, (dr,) = loss.residual_jvp(x, [v])
    rows, moved = expected(model, x, directions, weights, [v])
    close(r, rows[:, 0, 0] * rows[:, 3, 1] + rows[:, 1, 1] * rows[:, 2, 0], "residuals")
    wanted = moved[:, 0, 0] * rows[:, 3, 1] + rows[:, 0, 0] * moved[:, 3, 1]
    wanted += moved[:, 1, 1] * rows[:, 2, 0] + rows[:, 1, 1] * moved[:, 2, 0]
    close(dr, wanted, "derivatives")


def singular(x, u, du, lap):
    """Return what is infinite at 0, and beyond float64 at 1e30."""
    return u * (x[0] ** 200 if x[0] > 0.0 else math.inf)


def poisson(x, u, du, lap):
    """Return the residual of u'' = -π² sin(π x), u(0) = u(1) = 0."""
    if x[0] == 0.0 or x[0] == 1.0:
        return 10.0 * u
    return lap + math.pi**2 * math.sin(math.pi * x[0])


def heat(x, u, du, lap):
    """Return the residual of u_t = 0.1 u_xx in (t, x) with u(0, x) = sin(π x), u(t, 0) = u(t, 1) = 0."""
    if x[0] == 0.0 or x[1] == 0.0 or x[1] == 1.0:
        return 10.0 * (u - math.sin(math.pi * x[1]) * (x[0] == 0.0))
    return du[0] - 0.1 * lap


def test_poisson_is_solved():
    model = fg.Sequential([fg.Dense(16, "tanh"), fg.Dense(1)], input_shape=1, device="cpu")
    loss, x = fg.PhysicsLoss(model, poisson), np.linspace(0, 1, 33)[:, None]
    values = [loss.gauss_newton_step(x, step=step) for step in range(40)]
    assert sorted(values, reverse=True) == values
    assert np.abs(model(x)[:, 0] - np.sin(math.pi * x[:, 0])).max() < tolerances.SOLVED


def test_the_heat_equation_is_solved():
    model = fg.Sequential([fg.Dense(16, "tanh"), fg.Dense(1)], input_shape=2, device="cpu")
    loss = fg.PhysicsLoss(model, heat, weights=(0, 1))
    x = np.stack(np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 9)), -1).reshape(-1, 2)
    for step in range(60):
        loss.gauss_newton_step(x, directions=48, step=step)
    solution = np.exp(-0.1 * math.pi**2 * x[:, 0]) * np.sin(math.pi * x[:, 1])
    assert np.abs(model(x)[:, 0] - solution).max() < 10 * tolerances.SOLVED


def test_forward_gradients_descend():
    model = fg.Sequential([fg.Dense(4, "tanh"), fg.Dense(1)], input_shape=1, device="cpu")
    loss, x = fg.PhysicsLoss(model, poisson), np.linspace(0, 1, 9)[:, None]
    first = loss(x)
    for step in range(50):
        _, gradient = loss.forward_gradient(x, fg.directions.Rademacher(0, step))
        theta = model.parameters()
        model.load_parameters({name: theta[name] - 1e-4 * gradient[name] for name in theta})
    assert loss(x) < first


def test_a_step_that_does_not_help_leaves_the_parameters():
    model = network((1, 3, 1), "tanh")

    def constant(x, u, du, lap):
        return 1.0 + 0.0 * u

    before, loss = model.parameters(), fg.PhysicsLoss(model, constant)
    assert loss.gauss_newton_step(np.ones((3, 1))) == 1.0
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("at", [0.0, 1e30])
def test_numbers_that_are_not_finite_leave_the_parameters(at):
    model = network((1, 3, 1), "tanh")
    before, loss = model.parameters(), fg.PhysicsLoss(model, singular)
    assert not np.isfinite(loss.gauss_newton_step(np.full((3, 1), at)))
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])


def test_an_interrupt_leaves_the_parameters(monkeypatch):
    model = network((1, 3, 1), "tanh")
    before, loss = model.parameters(), fg.PhysicsLoss(model, poisson)

    def interrupted(self, x):
        raise KeyboardInterrupt

    monkeypatch.setattr(fg.PhysicsLoss, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loss.gauss_newton_step(np.full((3, 1), 0.5))
    for name, array in model.parameters().items():
        np.testing.assert_array_equal(array, before[name])


def test_the_same_numbers_give_the_same_step():
    found = []
    for _ in range(2):
        model = network((1, 3, 1), "tanh")
        fg.PhysicsLoss(model, poisson).gauss_newton_step(np.full((3, 1), 0.5), 4, seed=5, step=6)
        found.append(model.parameters())
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])


def test_copies():
    loss, x = fg.PhysicsLoss(network((1, 3, 1), "tanh"), poisson, weights=[2]), np.full((3, 1), 0.5)
    assert pickle.loads(pickle.dumps(loss))(x) == loss(x)


def unknown(x, u, du, lap):
    return undefined_name * u  # type: ignore[name-defined]  # noqa: F821


def of_two(x, u):
    return u


def of_an_array(x, u, du, lap):
    return du


def complex_number(x, u, du, lap):
    return 1j * u


def whole_number(x, u, du, lap):
    return 1 if u > 1e9 else 2


def by_roots(x, u, du, lap):
    return u + abs(np.roots(du)[0])


def test_a_residual_that_is_a_whole_number_has_the_derivative_zero():
    model = fg.Sequential([fg.Dense(3, "tanh"), fg.Dense(1)], 2, device="cpu")
    value, derivative = fg.PhysicsLoss(model, whole_number).jvp(X, fg.directions.Gaussian(1))
    assert (value, derivative) == (4, 0)


X: Any = np.ones((2, 2))
THREE: Any = 3


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda model: fg.PhysicsLoss(model, THREE), fg.ConfigError, "3 is no function"),
        (lambda model: fg.PhysicsLoss(THREE, nonlinear), fg.ConfigError, "model is 3"),
        (lambda model: fg.PhysicsLoss(model, unknown), fg.DifferentiationError, "undefined_name"),
        (lambda model: fg.PhysicsLoss(model, of_two), fg.DifferentiationError, "of_two takes 2 arguments"),
        (
            lambda model: fg.PhysicsLoss(model, of_an_array),
            fg.DifferentiationError,
            "of_an_array returns array",
        ),
        (
            lambda model: fg.PhysicsLoss(model, complex_number),
            fg.DifferentiationError,
            "complex_number returns complex128; a real number",
        ),
        (lambda model: fg.PhysicsLoss(model, by_roots), fg.DifferentiationError, "roots"),
        (
            lambda model: fg.PhysicsLoss(model, nonlinear)(np.ones((2, 3))),
            fg.ShapeError,
            r"x has shape \(2, 3\)",
        ),
        (lambda model: fg.PhysicsLoss(model, nonlinear).residual_jvp(X, []), fg.ConfigError, "tangents is "),
        (
            lambda model: fg.PhysicsLoss(model, nonlinear).residual_jvp(X, [THREE]),
            fg.ConfigError,
            "tangents is a int",
        ),
        (lambda model: fg.PhysicsLoss(model, nonlinear).jvp(X, {}), fg.ShapeError, "'0.weight' is missing"),
        (
            lambda model: fg.PhysicsLoss(model, nonlinear).gauss_newton_step(X, 0),
            fg.ConfigError,
            "directions is 0",
        ),
        (
            lambda _: fg.PhysicsLoss(network((2, 2000, 2000, 1), "tanh"), nonlinear).gauss_newton_step(
                X, 2**20
            ),
            fg.DeviceError,
            "this machine has",
        ),
        (
            lambda model: fg.PhysicsLoss(model, nonlinear).gauss_newton_step(X, damping=0.0),
            fg.ConfigError,
            "damping is 0.0",
        ),
    ],
)
def test_what_is_refused(call, kind, words):
    with pytest.raises(kind, match=words) as caught:
        call(network((2, 3, 1), "tanh"))
    assert "\n" not in str(caught.value)
