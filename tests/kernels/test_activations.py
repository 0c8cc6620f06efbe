"""The activation rules against float64: values, derivatives, and the consistency of the two."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from fgnumba.kernels.rules.activations.rules import RULES
from fgnumba.testing import check_activation
from tests import tolerances

MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Reference:
    """Value and derivative in float64; the derivative's zero.

    `kinks`: where the derivative jumps, or bends.
    """

    value: Callable[[np.ndarray], np.ndarray]
    derivative: Callable[[np.ndarray], np.ndarray]
    crossing: float | None = None
    kinks: tuple[float, ...] = ()


def logistic_slope(z):
    return special.expit(z) * special.expit(-z)


def density(z):
    return np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


REFERENCES = {
    "identity": Reference(lambda z: z, np.ones_like),
    "relu": Reference(lambda z: np.maximum(z, 0.0), lambda z: np.where(z > 0, 1.0, 0.0), kinks=(0.0,)),
    "leaky_relu": Reference(
        lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01), kinks=(0.0,)
    ),
    "tanh": Reference(np.tanh, lambda z: 4 * logistic_slope(2 * z)),
    "sigmoid": Reference(special.expit, logistic_slope),
    "gelu": Reference(
        lambda z: z * special.ndtr(z),
        lambda z: special.ndtr(z) + z * density(z),
        crossing=-0.7517916,
    ),
    "silu": Reference(
        lambda z: z * special.expit(z),
        lambda z: special.expit(z) * (1 + z * special.expit(-z)),
        crossing=-1.2784645,
    ),
    "softplus": Reference(lambda z: np.logaddexp(0.0, z), special.expit),
    "elu": Reference(
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0.0))),
        lambda z: np.exp(np.minimum(z, 0.0)),
        kinks=(0.0,),
    ),
}


@cache
def compiled(name: str, fused: bool) -> Any:
    rule = RULES[name]

    @numba.njit(
        "void(float32[::1], float32[::1], float32[::1])",
        error_model="numpy",
        fastmath={"contract", "nsz"} if fused else False,
    )
    def loop(z, value, derivative):
        for i in range(z.size):
            value[i], derivative[i] = rule(z[i])

    return loop


def evaluate(name: str, form: str, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    value, derivative = np.empty_like(z), np.empty_like(z)
    if form != "plain":
        compiled(name, form == "fused")(z, value, derivative)
        return value, derivative
    with np.errstate(all="ignore"):
        for i, scalar in enumerate(z):
            found = RULES[name](scalar)
            assert [type(number) for number in found] == [np.float32, np.float32]
            value[i], derivative[i] = found
    return value, derivative


def assert_within(name: str, z: np.ndarray, value: np.ndarray, derivative: np.ndarray) -> None:
    reference, wide = REFERENCES[name], z.astype(np.float64)
    with np.errstate(all="ignore"):
        exact_value, exact_derivative = reference.value(wide), reference.derivative(wide)
    value_bound, derivative_bound = tolerances.ACTIVATIONS[name]
    near_zero = np.zeros_like(wide)
    if reference.crossing is not None:
        near_zero[np.abs(wide - reference.crossing) < tolerances.CROSSING_WIDTH] = tolerances.CROSSING
    for what, found, exact, allowed in (
        ("value", value, exact_value, value_bound * np.abs(exact_value)),
        (
            "derivative",
            derivative,
            exact_derivative,
            derivative_bound * np.abs(exact_derivative) + near_zero,
        ),
    ):
        excess = np.abs(found - exact) - (allowed + tolerances.SUBNORMAL_ACTIVATION)
        worst = int(np.argmax(excess))  # a NaN counts as the largest
        assert excess[worst] <= 0, f"{name}, {what}: {found[worst]!r} for {exact[worst]!r} at {z[worst]!r}"


def test_every_rule_has_a_reference():
    assert RULES.keys() == REFERENCES.keys() == tolerances.ACTIVATIONS.keys()


@pytest.mark.parametrize("name", REFERENCES)
def test_every_activation_passes_its_check(name):
    reference = REFERENCES[name]
    of_value, of_derivative = tolerances.ACTIVATIONS[name]
    check_activation(
        name,
        reference.value,
        reference.derivative,
        tolerance=of_value,
        derivative_tolerance=of_derivative,
        zeros=() if reference.crossing is None else (reference.crossing,),
        kinks=reference.kinks,
    )


@settings(max_examples=60)
@given(z=st.floats(width=32, allow_nan=False, allow_infinity=False))
@pytest.mark.parametrize("name", REFERENCES)
def test_any_float_is_within_bound(name, z):
    point = np.array([z], np.float32)
    assert_within(name, point, *evaluate(name, "plain", point))


@pytest.mark.parametrize(
    ("name", "at_zero"),
    [
        ("relu", 0.0),
        ("leaky_relu", 0.01),
        ("elu", 1.0),
        ("tanh", 1.0),
        ("sigmoid", 0.25),
        ("gelu", 0.5),
        ("silu", 0.5),
    ],
)
@pytest.mark.parametrize("form", ["fused", "plain"])
def test_derivative_at_zero(name, at_zero, form):
    derivative = evaluate(name, form, np.array([0.0, -0.0], np.float32))[1]
    np.testing.assert_array_equal(derivative, np.full(2, at_zero, np.float32))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("tanh", (-1, 0), (1, 0)),
        ("sigmoid", (0, 0), (1, 0)),
        ("gelu", (0, 0), (1e4, 1)),
        ("silu", (0, 0), (1e4, 1)),
        ("softplus", (0, 0), (1e4, 1)),
        ("elu", (-1, 0), (1e4, 1)),
    ],
)
@pytest.mark.parametrize("form", ["fused", "plain"])
def test_saturates_exactly(name, low, high, form):
    found = np.transpose(evaluate(name, form, np.array([-1e4, 1e4], np.float32)))
    np.testing.assert_array_equal(found, np.array([low, high], np.float32))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("identity", (-np.inf, 1), (np.inf, 1)),
        ("relu", (0, 0), (np.inf, 1)),
        ("leaky_relu", (-np.inf, 0.01), (np.inf, 1)),
        ("tanh", (-1, 0), (1, 0)),
        ("sigmoid", (0, 0), (1, 0)),
        ("gelu", (0, 0), (np.inf, 1)),
        ("silu", (0, 0), (np.inf, 1)),
        ("softplus", (0, 0), (np.inf, 1)),
        ("elu", (-1, 0), (np.inf, 1)),
    ],
)
@pytest.mark.parametrize("form", ["fused", "unfused", "plain"])
def test_limits_at_infinity(name, low, high, form):
    found = np.transpose(evaluate(name, form, np.array([-np.inf, np.inf], np.float32)))
    np.testing.assert_array_equal(found, np.array([low, high], np.float32))
