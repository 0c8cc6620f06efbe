"""Optimisers on a GPU against float64: every rule, norms without padding; nothing is moved if a pass was not finite."""

import numpy as np
import pytest

from fgnumba.kernels.layout.packing import pack, unpack
from fgnumba.kernels.ops.optimizer import cuda as optimizer
from fgnumba.kernels.shared.loss import RESULT
from tests import tolerances

SETTING = {
    "learning_rate": 0.05,
    "momentum": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
    "weight_decay": 0.1,
    "decoupled_decay": 0.2,
    "correction": 1 - 0.9**3,
    "correction2": 1 - 0.999**3,
    "radius": 0.7,
    "factor": 0.3,
}


def stepped(rule, theta, g, m, v):
    """Return θ, m and v after a step, float64."""
    r = SETTING
    step, mu, rate = r["factor"] * g + r["weight_decay"] * theta, r["momentum"], r["learning_rate"]
    if rule == optimizer.SGD:
        return theta - rate * step, m, v
    if rule == optimizer.MOMENTUM:
        m = mu * m + step
        return theta - rate * m, m, v
    if rule == optimizer.NESTEROV:
        m = mu * m + step
        return theta - rate * (step + mu * m), m, v
    if rule == optimizer.ADAM:
        m, v = mu * m + (1 - mu) * step, r["beta2"] * v + (1 - r["beta2"]) * step**2
        move = (m / r["correction"]) / (np.sqrt(v / r["correction2"]) + r["epsilon"])
        return theta - rate * move - rate * r["decoupled_decay"] * theta, m, v
    if rule == optimizer.AVERAGE:
        return theta, m + (1 - mu) * (g - m), v
    if rule == optimizer.CORRECT:
        return theta + m, m + (1 - mu) * theta, v
    if rule == optimizer.BALL_L2:
        return theta - rate * (r["factor"] * m + theta), m, v
    return theta - rate * (r["radius"] * np.sign(m) + theta), m, v


RULES = {
    name: getattr(optimizer, name)
    for name in ("SGD", "MOMENTUM", "NESTEROV", "ADAM", "AVERAGE", "CORRECT", "BALL_L2", "BALL_LINF")
}


def update(gpu, rule, arrays, finite=1):
    """Return θ, m and v after a step; those that the rule does not name are not there."""
    rates = np.zeros(1, optimizer.RATES)
    for name, value in SETTING.items():
        rates[name] = value
    theta, g, m, v = (gpu.array(array) for array in arrays)
    operation = optimizer.bind(
        1,
        theta=theta,
        gradient=theta if rule == optimizer.CORRECT else g,
        rule=rule,
        rates=gpu.array(rates),
        result=gpu.array(np.full(1, finite, RESULT)),
        first_moment=m if rule != optimizer.SGD else None,
        second_moment=v if rule == optimizer.ADAM else None,
    )
    gpu.run(operation)
    return theta.download(), m.download(), v.download()


@pytest.mark.parametrize("size", [32, 1056, 2080])
@pytest.mark.parametrize("name", RULES)
def test_rules_against_float64(gpu, name, size):
    rng = np.random.default_rng(size)
    arrays = [rng.standard_normal(size).astype(np.float32) for _ in range(4)]
    arrays[2][:3], arrays[3] = 0, arrays[3] ** 2
    expected = stepped(RULES[name], *(array.astype(np.float64) for array in arrays))
    for found, exact in zip(update(gpu, RULES[name], arrays), expected, strict=True):
        tolerances.OPTIMISER_STEP.check(found, exact)


@pytest.mark.parametrize("name", RULES)
def test_nothing_is_moved_after_a_pass_that_was_not_finite(gpu, name):
    arrays = [np.random.default_rng(k).random(64, np.float32) for k in range(4)]
    for found, before in zip(
        update(gpu, RULES[name], arrays, finite=0), (arrays[0], *arrays[2:]), strict=True
    ):
        np.testing.assert_array_equal(found, before)


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((1,), 1), ((70,), 1), ((30,), 3), ((70, 67), 1), ((97, 33), 1), ((5, 70), 2)],
    ids=str,
)
@pytest.mark.parametrize("ball", [False, True])
def test_norms_and_factors(gpu, shape, groups, ball):
    rng = np.random.default_rng(0)
    array = rng.standard_normal(shape).astype(np.float32)
    packed = gpu.array(pack(array, groups))
    # What stands in the padding of panels must not matter.
    padding = packed.download()
    marked = np.where(padding == 0, np.float32(np.nan), padding)
    np.testing.assert_array_equal(unpack(marked, shape[-1], groups), array)
    packed.upload(marked)
    squares = gpu.array(np.full(optimizer.square_sums(packed.size) + 300, 0.25))
    rates = np.zeros(1, optimizer.RATES)
    rates["radius"], rates["clip_norm"] = 2.0, 5.0
    rates = gpu.array(rates)
    sums = squares[: optimizer.square_sums(packed.size)]
    gpu.run(
        optimizer.bind_squares(1, values=packed, columns=shape[-1], groups=groups, squares=sums),
        optimizer.bind_factor(squares=squares, ball=ball, rates=rates),
    )
    exact = np.sum(array.astype(np.float64) ** 2)
    tolerances.NORM.check(sums.download().sum(), exact)
    norm, found = np.sqrt(exact + 75), rates.download()[0]
    tolerances.NORM.check(found["norm"], norm)
    tolerances.NORM.check(found["factor"], (2.0 if ball else min(norm, 5.0)) / norm)


@pytest.mark.parametrize(("clip", "value", "ball", "factor"), [(9, 2, 0, 1), (9, 0, 0, 1), (9, 0, 1, 0)])
def test_a_short_gradient_is_not_clipped(gpu, clip, value, ball, factor):
    rates = np.zeros(1, optimizer.RATES)
    rates["radius"], rates["clip_norm"] = 2.0, clip
    rates = gpu.array(rates)
    squares = gpu.array(np.full(1, float(value)))
    gpu.run(optimizer.bind_factor(squares=squares, ball=bool(ball), rates=rates))
    assert rates.download()["factor"][0] == factor
