"""Optimisers: against float64 formulas step by step, and on functions with a known minimum."""

import copy
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fgnumba as fg
from fgnumba.bench.reverse import ReverseMode
from fgnumba.kernels.devices.device import CPU
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.layers.parameters import Parameter
from fgnumba.optimizers import Optimizer
from tests import tolerances

RATES = 0.05, 0.01  # learning rate and its decay


class Sgd:
    def __init__(self, momentum=0.0, nesterov=False, weight_decay=0.0):
        self.mu, self.nesterov, self.decay, self.m = momentum, nesterov, weight_decay, 0.0

    def step(self, theta, g, rate, number):
        g = g + self.decay * theta
        self.m = self.mu * self.m + g
        return theta - rate * (g + self.mu * self.m if self.nesterov else self.m)


class Adam:
    def __init__(self, coupled=0.0, apart=0.0):
        self.coupled, self.apart, self.m, self.v = coupled, apart, 0.0, 0.0

    def step(self, theta, g, rate, number):
        g = g + self.coupled * theta
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        m, v = self.m / (1 - 0.9 ** (number + 1)), self.v / (1 - 0.999 ** (number + 1))
        return theta - rate * (m / (np.sqrt(v) + 1e-8) + self.apart * theta)


class Ball:
    def __init__(self, norm, radius, averaging):
        self.norm, self.radius, self.averaging, self.m = norm, radius, averaging, 0.0

    def step(self, theta, g, rate, number):
        self.m = self.m + self.averaging * (g - self.m)
        s = np.sign(self.m) if self.norm == "linf" else self.m / np.sqrt(np.sum(self.m**2))
        return theta + rate * (-self.radius * s - theta)


class Clipped(Sgd):
    def step(self, theta, g, rate, number):
        return super().step(theta, g * min(1.0, 0.5 / np.sqrt(np.sum(g**2))), rate, number)


CASES: dict[str, tuple[Optimizer, Any]] = {
    "sgd": (fg.SGD(*RATES), Sgd()),
    "momentum": (fg.SGD(*RATES, momentum=0.9), Sgd(0.9)),
    "nesterov": (fg.SGD(*RATES, momentum=0.9, nesterov=True), Sgd(0.9, True)),
    "weight decay": (fg.SGD(*RATES, momentum=0.5, weight_decay=0.1), Sgd(0.5, False, 0.1)),
    "clipped": (fg.SGD(*RATES, clip_norm=0.5), Clipped()),
    "adam": (fg.Adam(*RATES), Adam()),
    "adam with decay": (fg.Adam(*RATES, weight_decay=0.1), Adam(coupled=0.1)),
    "adamw": (fg.AdamW(*RATES, weight_decay=0.1), Adam(apart=0.1)),
    "frank-wolfe l2": (fg.FrankWolfe(3.0, *RATES), Ball("l2", 3.0, 0.1)),
    "frank-wolfe linf": (
        fg.FrankWolfe(0.2, *RATES, norm="linf", averaging=1.0),
        Ball("linf", 0.2, 1.0),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_steps_against_float64(case):
    check_steps(case, {"w": (65, 37), "b": (37,), "c": (3, 3, 4, 10)})


SIZES = st.one_of(st.integers(1, 70), st.sampled_from([1, 31, 32, 33, 97, 257]))


@settings(max_examples=40)
@given(st.sampled_from(sorted(CASES)), SIZES, SIZES, st.integers(1, 3), st.integers(1, 40))
def test_steps_on_any_shape(case, rows, columns, size, filters):
    check_steps(case, {"w": (rows, columns), "b": (columns,), "c": (size, size, 1, 2 * filters)}, 3)


def check_steps(case, shapes, steps=12):
    optimizer, expected = copy.deepcopy(CASES[case])
    rng = np.random.default_rng(0)
    theta = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    parameters = {
        name: Parameter.create(name, 0, array, groups=2 if name == "c" else 1)
        for name, array in theta.items()
    }
    gradients = {name: aligned(p.packed.shape) for name, p in parameters.items()}
    kept: dict[tuple[str, str], np.ndarray] = {}
    rates, result = optimizer.new_rates(), np.ones(1, RESULT)

    def memory(kind, parameter):
        return kept.setdefault((kind, parameter.name), aligned(parameter.packed.shape))

    program = CPU.program(optimizer.bind(CPU, parameters, gradients, rates, result, memory))
    flat = np.concatenate([array.ravel() for array in theta.values()]).astype(np.float64)
    for number in range(steps):
        drawn = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        for name, array in drawn.items():
            # What stands in the padding of panels must not matter.
            gradients[name][...] = 7.0
            parameters[name].assign(array, gradients[name])
        optimizer.set_rates(rates, number)
        program.run()
        g = np.concatenate([array.ravel() for array in drawn.values()]).astype(np.float64)
        flat = expected.step(flat, g, RATES[0] * math.exp(-number * RATES[1]), number)
        found = np.concatenate([p.array().ravel() for p in parameters.values()])
        tolerances.OPTIMISER_STEPS.check(found, flat)
    before = {name: p.array() for name, p in parameters.items()}
    result["finite"] = 0
    program.run()
    for name, parameter in parameters.items():
        np.testing.assert_array_equal(parameter.array(), before[name])


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": fg.SGD(0.3),
    "momentum": fg.SGD(0.05, momentum=0.9),
    "nesterov": fg.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": fg.Adam(0.03, decay=0.01),
    "adamw": fg.AdamW(0.03, decay=0.01, weight_decay=1e-4),
    "frank-wolfe": fg.FrankWolfe(radius=3.0, learning_rate=lambda step: 2 / (step + 2), averaging=1.0),
}


@pytest.mark.parametrize("estimator", [None, ReverseMode(), fg.WeightPerturbation(directions=8)], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_least_squares_are_found(name, estimator):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3)).astype(np.float32)
    w = np.array([[1.0], [-0.5], [0.25]], np.float32)
    model = fg.Sequential([fg.Dense(1, bias=False)], 3, seed=1)
    estimator = estimator or fg.ActivityPerturbation()
    trainer = fg.Trainer(model, loss=fg.MeanSquaredError(), estimator=estimator, optimizer=OPTIMIZERS[name])
    for _ in range(600):
        trainer.step(x, x @ w)
    bound = tolerances.FITTED_IN_A_BALL if name == "frank-wolfe" else tolerances.FITTED
    bound.check(model.parameters()["0.weight"], w)


def test_frank_wolfe_stays_in_its_ball():
    # Of a round bowl, the best point of a ball is where the way to the minimum leaves it.
    x = (8 * np.linalg.qr(np.random.default_rng(0).standard_normal((64, 3)))[0]).astype(np.float32)
    w = np.array([[3.0], [-4.0], [0.0]], np.float32)
    model = fg.Sequential([fg.Dense(1, bias=False)], 3, seed=1)
    model.load_parameters({"0.weight": np.zeros((3, 1))})
    optimizer = fg.FrankWolfe(radius=1.0, learning_rate=0.1, averaging=1.0)
    trainer = fg.Trainer(
        model,
        loss=fg.MeanSquaredError(),
        estimator=fg.WeightPerturbation("gaussian", 8, "projected"),
        optimizer=optimizer,
    )
    for _ in range(200):
        trainer.step(x, x @ w)
        assert np.linalg.norm(model.parameters()["0.weight"]) <= 1 + tolerances.BALL
    tolerances.FITTED_ON_A_SPHERE.check(model.parameters()["0.weight"], w / 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fg.SGD(0.1, nesterov=True), "nesterov needs a momentum"),
        (lambda: fg.SGD(0.1, weight_decay=-1), "weight_decay is -1"),
        (lambda: fg.SGD(0.1, clip_norm=0), "clip_norm is 0"),
        (lambda: fg.Adam(0.0), "learning_rate is 0"),
        (lambda: fg.Adam(beta1=1.0), "beta1 is 1.0"),
        (lambda: fg.Adam(beta2=-0.1), "beta2 is -0.1"),
        (lambda: fg.Adam(epsilon=0), "epsilon is 0"),
        (lambda: fg.AdamW(lambda step: 0.1, decay=0.1), "decay is 0.1 beside a schedule"),
        (lambda: fg.FrankWolfe(radius=0), "radius is 0"),
        (lambda: fg.FrankWolfe(radius=1, norm="l1"), "norm is 'l1'; 'l2' or 'linf'"),
        (lambda: fg.FrankWolfe(radius=1, averaging=0), "averaging is 0; a number above 0"),
        (lambda: fg.FrankWolfe(radius=1, learning_rate=1.5), "Frank-Wolfe takes at most 1"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(fg.ConfigError, match=message):
        make()
