"""The check of an activation: the library's pass it elsewhere, each fault that a rule can have fails it here."""

import math

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.layers.own_activation import OwnActivation
from fgnumba.testing import activations, check_activation, rules
from tests import own_functions

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


def flat_from_20(z):
    """Return a ReLU whose derivative is 0 beyond 20, as it must not be."""
    is_up = not z <= ZERO
    return z if is_up else ZERO, ONE if is_up and not z > np.float32(20) else ZERO


def raising(z):
    return z, np.float32(math.sqrt(z))


def uncompilable(z):
    return z, globals()["ONE"]


def alone(z):
    return z


def sequential(z):
    """Return min(|z|, 3), by a loop whose length depends on z."""
    total, rest = ZERO, abs(z)
    while rest > ZERO and total < THREE:
        total += min(rest, ONE)
        rest -= ONE
    slope = ZERO if total >= THREE else ONE
    return total if z == z else z, slope if z >= ZERO else -slope


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


def above_zero(z):
    return np.maximum(z, 0.0)


@pytest.mark.parametrize("value", [above_zero, None])
def test_a_derivative_that_is_wrong_beyond_20_fails(value):
    with pytest.raises(AssertionError, match="derivative, beside differences of the value, at z = "):
        check_activation(flat_from_20, value, kinks=(0.0,))


def relu(between=(math.inf, math.inf)):
    """Return what a compiled loop over a ReLU does, whose derivative is 0 between two numbers."""

    def loop(z, value, derivative):
        value[:] = np.maximum(z, ZERO)
        derivative[:] = (z > 0) & ~((z > between[0]) & (z < between[1]))

    return loop


@pytest.mark.parametrize("value", [above_zero, None])
@pytest.mark.parametrize("between", [(20.3, 20.6), (1e6, 1e7), (1e30, 4e30), (1e-8, 1e-6), (1e-35, 1e-33)])
def test_a_derivative_that_is_wrong_at_some_magnitude_fails(between, value):
    with pytest.raises(AssertionError, match="derivative, beside differences of the value, at z = "):
        activations._consistent("relu", relu(between), value, (0.0,))


@pytest.mark.parametrize("value", [above_zero, None])
def test_differences_are_not_taken_across_a_kink(value):
    activations._consistent("relu", relu(), value, (0.0,))
    with pytest.raises(AssertionError, match="derivative, beside differences of the value, at z = "):
        activations._consistent("relu", relu(), value, ())


def test_a_steep_part_does_not_hide_an_error_elsewhere():
    def of_value(z):
        return np.where(z > 5, 5 + 8000 * np.clip(z - 5, 0, 1), z)

    def steep(z, value, derivative):
        value[:] = of_value(z)
        derivative[:] = np.where(z > 5, np.where(z < 6, 8000, 0), np.where(z < -1, 1.001, 1))

    with pytest.raises(AssertionError, match=r"differences of the value, .* is .*1\.001"):
        activations._consistent("steep", steep, of_value, (5.0, 6.0))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (alone, "alone, plain Python: of .* it returns float32; two np.float32 are expected"),
        (raising, "raising, plain Python: of .* it raises ValueError: "),
        (uncompilable, "uncompilable, fused: it does not compile: "),
        (sequential, "sequential, .*: a loop over it does not become vector code"),
    ],
)
def test_a_rule_that_cannot_be_run_fails_with_a_line(rule, message):
    with pytest.raises(AssertionError, match=message) as caught:
        check_activation(rule, kinks=(-3.0, 0.0, 3.0))
    assert "\n" not in str(caught.value)


class Loop:
    """What has machine code of its own."""

    def __init__(self, stored):
        self._code = f"define void @loop() {{\n  %3 = fmul <4 x float> %1, %2\n  store {stored}, ptr %0\n}}\n"

    def inspect_llvm(self):
        return {(): self._code}


def test_vector_code_stores_vectors():
    rules.vector_code("loop", Loop("<4 x float> %3"))
    with pytest.raises(AssertionError, match="loop: a loop over it does not become vector code"):
        rules.vector_code("loop", Loop("float %4"))


@pytest.mark.parametrize(
    ("formulas", "message"),
    [
        ({"value": lambda z: z[:3]}, r"value has shape \(3,\); \(\d+,\) is expected"),
        ({"value": lambda z: "a"}, "value returned 'a'; an array of numbers is expected"),
        ({"derivative": lambda z: None}, "derivative at z = .* nan is expected"),
    ],
)
def test_a_formula_that_returns_something_else_fails(formulas, message):
    with pytest.raises(AssertionError, match=message):
        check_activation(hardtanh, **formulas, kinks=(-1.0, 1.0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rule": 3}, "rule is 3; an activation's name or a function is required"),
        ({"rule": "tanh", "value": 3}, "value is 3; a function is required"),
        ({"rule": "tanh", "derivative": "x"}, "derivative is 'x'; a function is required"),
    ],
)
def test_arguments_of_another_kind_are_refused(given, message):
    with pytest.raises(fg.ConfigError, match=message):
        check_activation(**given)


def test_a_wrong_slope_fails_without_a_reference():
    with pytest.raises(AssertionError, match="derivative, beside differences of the value, at z = "):
        check_activation(wrong_slope, kinks=(-1.0, 1.0))


def test_a_name_is_checked_as_a_layer_too():
    check_activation("tanh", np.tanh)
    with pytest.raises(AssertionError, match="tanh, fused: value at z = "):
        check_activation("tanh", np.sin)
    with pytest.raises(fg.ConfigError, match="unknown activation 'tan'"):
        check_activation("tan")


@pytest.mark.parametrize("name", own_functions.FUNCTIONS)
def test_activations_of_ones_own_pass(name):
    check_activation(fg.activation(own_functions.FUNCTIONS[name]))


def squashed(z):
    return math.tanh(z)


def test_an_activation_of_ones_own_is_compared_with_a_formula_that_is_given():
    activation = fg.activation(squashed)
    check_activation(activation, np.tanh)
    with pytest.raises(AssertionError, match=r"^squashed, fused: value at z = "):
        check_activation(activation, lambda z: 1.00001 * np.tanh(z))


def test_a_rule_of_ones_own_that_is_not_its_function_fails(monkeypatch):
    activation = fg.activation(own_functions.horner)
    other = fg.activation(own_functions.hard_swish)
    wrong = OwnActivation(str(activation))
    wrong.__dict__.update(activation.__dict__)

    wrong.function = own_functions.hard_swish
    with pytest.raises(
        AssertionError, match=r"^horner: value in float64, beside the function's own, at z = "
    ):
        check_activation(wrong)
    wrong.function = activation.function
    wrong.outputs = (activation.outputs[0], activation.outputs[0])
    with pytest.raises(
        AssertionError, match=r"^horner: derivative, beside differences of the value, at z = "
    ):
        check_activation(wrong)
    wrong.outputs = activation.outputs
    wrong.rule = other.rule
    with pytest.raises(AssertionError, match=r"^horner, fused: value at z = "):
        check_activation(wrong)
