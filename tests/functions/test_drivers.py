"""Gradients and their like: passes that leave nothing behind, structures of arguments, chunks, second order."""

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from numba import njit

import fgnumba as fg

Point = namedtuple("Point", "weight count row")


def doubled(x, w):
    w *= 2.0
    x[0] = 3.0 * x[0]
    return np.sum(x * w)


def with_workspace(x, work):
    for i in range(len(x)):
        work[i] = x[i] * x[i]
    return np.sum(work)


def test_a_pass_does_not_see_what_another_wrote():
    x, w = np.ones(10), np.arange(1.0, 11.0)
    right = 2.0 * w
    right[0] *= 3.0
    np.testing.assert_array_equal(fg.gradient(doubled)(x, w), right)
    np.testing.assert_array_equal(fg.jacobian(doubled)(x, w), right)
    np.testing.assert_array_equal(x, np.ones(10))
    np.testing.assert_array_equal(w, np.arange(1.0, 11.0))


@pytest.mark.parametrize("nondiff", [(), "work"])
def test_a_workspace_needs_no_tangent_in_a_gradient(nondiff):
    x = np.arange(10.0)
    function = fg.differentiable(with_workspace, nondiff=nondiff)
    np.testing.assert_array_equal(fg.gradient(function)(x, np.zeros(10)), 2.0 * x)


def test_an_argument_in_nondiff_has_no_gradient():
    function = fg.differentiable(with_workspace, nondiff="work")
    with pytest.raises(fg.ConfigError, match="argument 'work' of with_workspace is in nondiff"):
        fg.gradient(function, 1)


def test_a_jvp_refuses_to_lose_what_is_written_to_an_argument():
    x = np.arange(3.0)
    with pytest.raises(
        fg.DifferentiationError, match="argument 'work' is written with values that carry"
    ) as info:
        fg.jvp(with_workspace, (x, np.zeros(3)), (x, None))
    assert "\n" not in str(info.value)


def test_arguments_may_have_names_that_the_drivers_use():
    def shadowing(range, min, _count, zeros):  # noqa: A002
        return np.sum(range * range) * min + _count * zeros

    x = np.arange(3.0)
    np.testing.assert_array_equal(fg.gradient(shadowing)(x, 2.0, 1.0, 1.0), 4.0 * x)
    np.testing.assert_array_equal(fg.jacobian(shadowing)(x, min=2.0, _count=1.0, zeros=1.0), 4.0 * x)


def test_the_gradient_of_a_named_tuple_is_one():
    def energy(point):
        return point.weight * np.sum(point.row * point.row) * point.count

    found = fg.gradient(energy)(Point(2.0, 3, np.arange(3.0)))
    assert type(found) is Point
    assert found.weight == 15.0
    assert found.count is None
    np.testing.assert_array_equal(found.row, [0.0, 12.0, 24.0])


def test_several_arguments_in_one_parameter():
    def product(*factors):
        return factors[0] * factors[1]

    assert fg.jvp(product, (2.0, 3.0), (1.0, 0.0)) == (6.0, 3.0)


def cubic(x):
    total = 0.0
    for i in range(len(x)):
        total += x[i] ** 3 * x[(i + 1) % len(x)]
    return total


def hessian_of_cubic(x):
    n = len(x)
    result = np.zeros((n, n))
    for i in range(n):
        j = (i + 1) % n
        result[i, i] += 6.0 * x[i] * x[j]
        result[i, j] += 3.0 * x[i] ** 2
        result[j, i] += 3.0 * x[i] ** 2
    return result


@pytest.mark.parametrize("chunk", [4, 8, 16])
def test_chunks_that_do_not_divide_the_count(chunk):
    for n in (1, 7, 17):
        x = np.arange(1.0, n + 1.0)
        right = hessian_of_cubic(x) if n > 1 else np.array([[12.0]])
        np.testing.assert_array_equal(fg.hessian(cubic, chunk=chunk)(x), right)
        v = np.arange(n) - 2.0
        np.testing.assert_array_equal(fg.hvp(cubic, x, v, chunk=chunk), right @ v)
        assert fg.laplacian(cubic, chunk=chunk)(x) == np.trace(right)


@njit
def quartic(x):
    return x**4 + 2.0 * x


def test_taylor_gives_the_derivatives_along_a_line():
    for order in range(5):
        assert fg.taylor(quartic, 3.0, 2.0, order) == [87.0, 220.0, 432.0, 576.0, 384.0][: order + 1]


def test_derivatives_of_derivatives_in_python_and_in_compiled_code():
    @njit
    def curvature(x):
        return fg.derivative(fg.derivative(quartic))(x)

    @njit
    def slope(x):
        return fg.gradient(cubic_jitted)(x)

    cubic_jitted = njit(cubic)
    x = np.array([1.0, 2.0])
    assert curvature(3.0) == 108.0
    np.testing.assert_array_equal(slope(x), [14.0, 13.0])
    np.testing.assert_array_equal(fg.jacobian(fg.gradient(cubic))(x), hessian_of_cubic(x))
    of_two = fg.jacobian(fg.gradient(lambda x, scale: scale * cubic_jitted(x)))
    np.testing.assert_array_equal(of_two(x, 2.0), 2.0 * hessian_of_cubic(x))


def test_a_second_call_compiles_nothing():
    function = fg.differentiable(cubic)
    gradient: Any = fg.gradient(function)
    again: Any = fg.gradient(cubic)
    x = np.arange(1.0, 4.0)
    first = gradient(x)
    overloads = len(gradient.primal.overloads), len(function.tangent.overloads)
    np.testing.assert_array_equal(gradient(x), first)
    np.testing.assert_array_equal(fg.gradient(cubic)(x), first)
    assert (len(gradient.primal.overloads), len(function.tangent.overloads)) == overloads
    assert again.primal is gradient.primal
