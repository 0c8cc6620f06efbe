"""Derivatives of every function of ``math`` and ``numpy`` with a rule, against differences of NumPy's own values."""

from typing import Any

import numpy as np
import pytest
from numba import njit

import fgnumba as fg
from tests.functions.function_cases import DIRECTION, GROUPS, POINT, program_of
from tests.functions.zero_cases import ZEROS
from tests.tolerances_functions import DIFFERENCE, SAME_FUNCTION, SECOND_DIFFERENCE

# One program of numbers and one of arrays run always; the others take some minutes to compile.
QUICK = ("scalars", "reductions")


@njit
def through_ndenumerate(values):
    total = 0.0
    for place, value in np.ndenumerate(values):
        total += value * value * (1 + place[0])
    return total


@njit
def through_enumerate(values):
    total = 0.0
    for index, value in enumerate(values):
        total += value * value * index
    return total


@njit
def through_zip(first, second):
    total = 0.0
    for one, other in zip(first, second):  # noqa: B905 - Numba's zip has no strict=
        total += one * other
    return total


SPACE = {
    "np": np,
    "math": __import__("math"),
    "through_ndenumerate": through_ndenumerate,
    "through_enumerate": through_enumerate,
    "through_zip": through_zip,
}


def first_difference(f: Any, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return df(x + t v)/dt by four values; the error is h⁴/30 of the fifth derivative."""
    h = 2.0**-10
    return (8.0 * (f(x + h * v) - f(x - h * v)) - (f(x + 2 * h * v) - f(x - 2 * h * v))) / (12.0 * h)


def second_difference(f: Any, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return d²f(x + t v)/dt² by five values; the error is h⁴/90 of the sixth derivative."""
    h = 2.0**-8
    near, far = f(x + h * v) + f(x - h * v), f(x + 2 * h * v) + f(x - 2 * h * v)
    return (16.0 * near - far - 30.0 * f(x)) / (12.0 * h * h)


def marked(group: str) -> Any:
    return group if group in QUICK else pytest.param(group, marks=pytest.mark.slow)


@pytest.mark.parametrize("group", [marked(group) for group in GROUPS])
def test_derivatives_of_a_group_agree_with_differences(group: str) -> None:
    program = program_of(GROUPS[group], SPACE)
    function = fg.differentiable(program)
    value, tangent = fg.jvp(function, (POINT,), (DIRECTION,))
    SAME_FUNCTION.check(value, program(POINT))
    DIFFERENCE.check(tangent, first_difference(program, POINT, DIRECTION))

    columns = fg.jacobian(function, chunk=4)(POINT)
    SAME_FUNCTION.check(columns @ DIRECTION, tangent)


SECOND = [group for group in GROUPS if group != "factors"]


@pytest.mark.slow
@pytest.mark.parametrize("group", SECOND)
def test_second_derivatives_of_a_group_agree_with_differences(group: str) -> None:
    program = program_of(GROUPS[group], SPACE)
    second = fg.taylor(program, POINT, DIRECTION, 2)[2]
    SECOND_DIFFERENCE.check(second, second_difference(program, POINT, DIRECTION))


def test_piecewise_constant_functions_have_zero_tangents() -> None:
    program = program_of(ZEROS, SPACE)
    _, tangent = fg.jvp(program, (POINT,), (DIRECTION,))
    assert not tangent.any()
