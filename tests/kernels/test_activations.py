"""The activation rules against float64: value, derivative, and the two against each other."""

import re
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
from tests import tolerances

MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Reference:
    """Value and derivative in float64; the derivative's zero.

    `kink`: the derivative is not smooth at 0.
    """

    value: Callable[[np.ndarray], np.ndarray]
    derivative: Callable[[np.ndarray], np.ndarray]
    crossing: float | None = None
    kink: bool = False


def logistic_slope(z):
    return special.expit(z) * special.expit(-z)


def density(z):
    return np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


REFERENCES = {
    "identity": Reference(lambda z: z, np.ones_like),
    "relu": Reference(lambda z: np.maximum(z, 0.0), lambda z: np.where(z > 0, 1.0, 0.0), kink=True),
    "leaky_relu": Reference(
        lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01), kink=True
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
        kink=True,
    ),
}


@cache
def grid() -> np.ndarray:
    bits = np.arange(0, 2**32, 12289, dtype=np.int64).astype(np.uint32).view(np.float32)
    edges = np.array(
        [0.0, 2.0**-149, 2.0**-126, 1.0, 9.02, 14.5, 15.0, 17.33, 87.5, 104.0, 1e4, MAX], np.float32
    )
    dense = np.concatenate([np.linspace(-110, 110, 100_001), np.linspace(-4, 4, 100_001)]).astype(np.float32)
    z = np.concatenate([bits, edges, -edges, dense])
    return z[np.isfinite(z)]


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


@pytest.mark.parametrize("form", ["fused", "unfused", "plain"])
@pytest.mark.parametrize("name", REFERENCES)
def test_error_is_within_bound(name, form):
    z = grid()[::500] if form == "plain" else grid()
    assert_within(name, z, *evaluate(name, form, z))


@settings(max_examples=60)
@given(z=st.floats(width=32, allow_nan=False, allow_infinity=False))
@pytest.mark.parametrize("name", REFERENCES)
def test_any_float_is_within_bound(name, z):
    point = np.array([z], np.float32)
    assert_within(name, point, *evaluate(name, "plain", point))


@pytest.mark.parametrize("name", REFERENCES)
def test_derivative_is_that_of_the_value(name):
    # Float64 differences of the reference's value: truncation h**2 / 6, rounding 1e-16 * |a| / h.
    reference, h = REFERENCES[name], 1e-5
    z = np.linspace(-12, 12, 4801).astype(np.float32)
    if reference.kink:
        z = z[np.abs(z) > h]
    wide = z.astype(np.float64)
    difference = (reference.value(wide + h) - reference.value(wide - h)) / (2 * h)
    tolerances.DIFFERENCED_ACTIVATION.check(evaluate(name, "fused", z)[1], difference)


@pytest.mark.parametrize("form", ["fused", "plain"])
@pytest.mark.parametrize("name", REFERENCES)
def test_nan_gives_a_nan_value(name, form):
    assert np.isnan(evaluate(name, form, np.array([np.nan], np.float32))[0]).all()


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


@pytest.mark.parametrize("name", REFERENCES)
def test_loop_is_vector_code_in_float32(name):
    (module,) = compiled(name, True).inspect_llvm().values()
    body = module[module.index("define") :]
    body = body[: body.index("\n}")]
    calls = set(re.findall(r"call [^@\n]*@\"?([\w.]+)", body))
    assert not {c for c in calls if not c.startswith(("llvm.", "NRT_"))}
    assert "double" not in body
    assert re.search(r"store <\d+ x float>", body)


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


@pytest.mark.parametrize("form", ["fused", "unfused", "plain"])
@pytest.mark.parametrize("name", REFERENCES)
def test_huge_and_tiny_numbers(name, form):
    z = np.array([1e30, -1e30, MAX, -MAX, 1e-40, -1e-40, 2.0**-149, 0.0, -0.0], np.float32)
    assert_within(name, z, *evaluate(name, form, z))
