"""Values and tangents are views, copies and memory of their own alike, so that no write changes one of them alone."""

import numpy as np
import pytest
from numba import njit, prange

import fgnumba as fg
from tests.tolerances_functions import SAME_FUNCTION

MATRIX = np.array([[3.0, 0.5, -0.2], [0.1, 2.0, 0.4], [-0.3, 0.6, 4.0]])
CHANGE = np.array([[0.3, -0.5, 0.7], [0.2, 0.9, -0.4], [0.6, -0.1, 0.8]])


def part_as_view(x):
    a = np.zeros(2)
    np.real(a)[0] = x[0] * x[1]
    return a[0]


def inverse_copied(a):
    y = np.linalg.inv(a)
    c = np.ascontiguousarray(y)
    c[0, 0] = 0.0
    return y[0, 0]


def inverse_shared(a):
    y = np.linalg.inv(a)
    f = np.asfortranarray(y)
    f[0, 0] = a[0, 0] * a[0, 0]
    return y[0, 0]


def expression_copied(a):
    z = a * 2.0
    row = z.ravel()
    row[0] = 5.0
    return z.sum()


INVERSE = np.linalg.inv(MATRIX)


@pytest.mark.parametrize(
    ("function", "x", "v", "value", "derivative"),
    [
        (part_as_view, np.array([2.0, 3.0]), np.array([1.0, 10.0]), 6.0, 23.0),
        (inverse_copied, MATRIX, CHANGE, INVERSE[0, 0], -(INVERSE @ CHANGE @ INVERSE)[0, 0]),
        (inverse_shared, MATRIX, CHANGE, 9.0, 6.0 * CHANGE[0, 0]),
        (expression_copied, np.asfortranarray(MATRIX), CHANGE, 2.0 * MATRIX.sum(), 2.0 * CHANGE.sum()),
    ],
)
def test_tangents_are_copied_where_values_are(function, x, v, value, derivative):
    found = fg.jvp(function, (x,), (v,))
    SAME_FUNCTION.check(found, (value, derivative))


def test_tangents_are_copied_where_values_are_in_vectors():
    found = fg.gradient(inverse_copied)(MATRIX)
    SAME_FUNCTION.check(found, -np.outer(INVERSE[0], INVERSE[:, 0]))


def rounded_in_place(x):
    result = x * 2.0
    np.round(x, 0, result)
    return result.sum()


def floor_in_place(x):
    result = x * 2.0
    np.floor(x, result)
    return result.sum()


@pytest.mark.parametrize("function", [rounded_in_place, floor_in_place])
def test_a_result_written_to_an_array_is_refused(function):
    with pytest.raises(
        fg.DifferentiationError, match=r"with an array for its result has no derivative rule \(.*:"
    ):
        fg.jvp(function, (np.ones(2),), (np.ones(2),))


def shifted(x, y):
    x += 1.0
    y *= 2.0
    return (x * y).sum()


def test_a_tangent_may_be_the_value_or_another_tangent():
    x, y = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    right = (36.0 + 6.0, 2 * (y * x + (x + 1.0) * x).sum())
    assert fg.jvp(shifted, (x.copy(), y.copy()), (x, x)) == right
    same = x.copy()
    assert fg.jvp(shifted, (same, y.copy()), (same, x)) == right


def complex_norm(x):
    z = np.array([x[0] + 1j * x[1], x[0] * x[1] * 1j])
    return np.linalg.norm(z)


def test_rules_of_real_numbers_are_refused_for_complex_ones():
    with pytest.raises(fg.DifferentiationError, match="norm of complex numbers has no derivative rule"):
        fg.jvp(complex_norm, (np.ones(2),), (np.ones(2),))


@njit(parallel=True)
def product(x):
    result = 1.0
    for index in prange(len(x)):
        result *= x[index]
    return result


def test_a_product_over_parallel_passes_is_refused_in_one_line():
    with pytest.raises(
        fg.DifferentiationError, match=r"^product \(.*over prange, only sums have a derivative"
    ) as found:
        fg.jvp(product, (np.ones(4),), (np.ones(4),))
    assert "\n" not in str(found.value)
