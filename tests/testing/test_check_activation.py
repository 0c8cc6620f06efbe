"""The check of an activation: the library's pass it elsewhere, each fault that a rule can have fails it here."""

import math

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.testing import check_activation

ZERO, ONE, THREE, SIX = np.float32(0), np.float32(1), np.float32(3), np.float32(6)


def hardtanh(z):
    """Return a = min(max(z, -1), 1) and a' = 1 between."""
    a = -ONE if z < -ONE else z
    a = ONE if a > ONE else a
    return a, ONE if abs(z) < ONE else ZERO


def value(z):
    return np.clip(z, -1, 1)


def derivative(z):
    return np.where(np.abs(z) < 1, 1.0, 0.0)


def wrong_value(z):
    a, slope = hardtanh(z)
    return a * np.float32(1.00001), slope


def wrong_slope(z):
    a, slope = hardtanh(z)
    return a, slope * np.float32(0.99)


def wide(z):
    a, slope = hardtanh(z)
    return np.float32(a * 1.0), np.float32(math.sin(slope) / math.sin(1.0))


def untyped(z):
    a, slope = hardtanh(z)
    return a * 1.0, float(slope)


def overflowing(z):
    a, slope = hardtanh(z)
    return a + z * z * ZERO, slope


def indeterminate(z):
    a, slope = hardtanh(z)
    return a + z * ZERO, slope


def hiding(z):
    a, slope = hardtanh(z)
    return ZERO if z != z else a, slope


def test_a_rule_of_ones_own_passes():
    check_activation(hardtanh, value, derivative, kinks=(-1.0, 1.0))
    check_activation(hardtanh, kinks=(-1.0, 1.0))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            wrong_value,
            r"wrong_value, fused: value at z = .* is .*; .* is expected \(error .*, allowed .*\); .* wrong",
        ),
        (wrong_slope, r"wrong_slope, fused: derivative at z = "),
        (
            untyped,
            r"untyped, plain Python: of .* it returns \['float32', 'float'\]; two np.float32 are expected",
        ),
        (wide, r"wide, .*(calls|float64)"),
        (overflowing, r"overflowing, fused: value at z = .* is (nan|-?inf); a finite number is expected"),
        (indeterminate, r"indeterminate, fused: the value at -inf is NaN; what it tends to is expected"),
        (hiding, r"hiding, fused: the value of NaN is 0.0; NaN is expected"),
    ],
)
def test_a_fault_fails(rule, message):
    with pytest.raises(AssertionError, match=message):
        check_activation(rule, value, derivative, kinks=(-1.0, 1.0))


def test_a_wrong_slope_fails_without_a_reference():
    with pytest.raises(AssertionError, match="derivative, beside differences of the value, at z = "):
        check_activation(wrong_slope, kinks=(-1.0, 1.0))


def test_a_name_is_checked_as_a_layer_too():
    check_activation("tanh", np.tanh)
    with pytest.raises(AssertionError, match="tanh, fused: value at z = "):
        check_activation("tanh", np.sin)
    with pytest.raises(fg.ConfigError, match="unknown activation 'tan'"):
        check_activation("tan")
