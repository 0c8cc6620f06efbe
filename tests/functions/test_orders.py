"""Arrays in C and in Fortran order, strided and read-only ones, and copies of them.

NumPy's `ravel` and others return a view or a copy, by the order of an array. What is written to it then changes the
array or does not; the tangents must do the same, one or several at a time.
"""

import numpy as np
import pytest

import fgnumba as fg


def changed_by_ravel(x):
    row = x.ravel()
    row[0] = 5.0
    turned = np.ascontiguousarray(x)
    turned[0, 1] = 7.0
    return x.sum() + 2.0 * row[2] + turned[1, 0]


def copies(x):
    turned = x.T.copy()
    turned[0, 1] = 0.0
    part = x[:, ::2].copy()
    part[0, 0] = 0.0
    flat = x.T.flatten()
    flat[1] = 0.0
    return np.sum(turned * turned) + part[1, 1] + flat[0]


X = np.arange(1.0, 7.0).reshape(2, 3)
ORDERS = {
    "C": X,
    "Fortran": np.asfortranarray(X),
    "strided": np.repeat(np.repeat(X, 2, 0), 2, 1)[::2, ::2],
}
OUTER = np.array([[1.0, 1.0, 3.0], [2.0, 1.0, 1.0]])
# The first two elements of a view are constants by then.
RAVELLED = {"C": [[0.0, 0.0, 3.0], [2.0, 1.0, 1.0]], "Fortran": OUTER, "strided": OUTER}


@pytest.mark.parametrize("order", list(ORDERS))
def test_views_and_copies_of_every_order(order):
    x, right = ORDERS[order], np.array(RAVELLED[order])
    gradient = fg.gradient(changed_by_ravel)
    # What the function itself makes of the array says whether it wrote to it.
    assert x.copy(order="K").sum() == X.sum()
    np.testing.assert_array_equal(gradient(x), right)
    v = np.arange(6.0).reshape(2, 3)
    _, derivative = fg.jvp(changed_by_ravel, (x.copy() if order == "C" else _again(order),), (v,))
    assert derivative == np.sum(right * np.arange(6.0).reshape(2, 3))


def _again(order):
    if order == "Fortran":
        return np.asfortranarray(X)
    return np.repeat(np.repeat(X, 2, 0), 2, 1)[::2, ::2]


@pytest.mark.parametrize("chunk", [4, 8])
def test_copies_of_vectors_need_no_alignment(chunk):
    """Vectors of 8 float64 have 64 bytes, and memory begins at multiples of 32: rows of several lengths meet both."""
    gradient = fg.gradient(copies, chunk=chunk)
    for rows in range(2, 9):
        x = np.arange(1.0, 1.0 + 3 * rows).reshape(rows, 3)
        right = 2.0 * x
        right[1, 0] = 0.0
        right[1, 2] += 1.0
        right[0, 0] += 1.0
        np.testing.assert_array_equal(gradient(x), right)


def test_read_only_and_empty_arrays_and_arrays_without_axes():
    def total(x):
        return np.sum(x * x)

    x = np.arange(3.0)
    x.setflags(write=False)
    np.testing.assert_array_equal(fg.gradient(total)(x), [0.0, 2.0, 4.0])
    assert fg.jvp(total, (x,), (x,)) == (5.0, 10.0)
    assert fg.gradient(total)(np.zeros(0)).shape == (0,)
    assert fg.hessian(total)(np.zeros(0)).shape == (0, 0)
    found = fg.gradient(lambda x: x[()] ** 2)(np.array(3.0))
    assert found.shape == ()
    assert found == 6.0


def reversed_sum(x):
    cubes = x * x * x
    return np.sum(cubes[::-1])


def test_higher_orders_of_functions_given_views():
    # The derivatives along v of Σ x³ are 3 Σ x² v, 6 Σ x v² and 6 Σ v³; numbers that floats hold exactly.
    x, v = np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.5, -2.0])
    np.testing.assert_array_equal(
        fg.taylor(reversed_sum, x, v, 3),
        [7.125, 3 * np.sum(x**2 * v), 6 * np.sum(x * v**2), 6 * np.sum(v**3)],
    )
    np.testing.assert_array_equal(fg.hessian(reversed_sum)(x), np.diag(6 * x))
