"""Values that Numba does not take are refused in one line; constants and tuples have derivatives like others."""

from collections import namedtuple

import numpy as np
import pytest

import fgnumba as fg
from tests.tolerances_functions import SAME_FUNCTION

Pair = namedtuple("Pair", "first second")


def total(x):
    return np.sum(x * x)


@pytest.mark.parametrize(
    "value",
    [{"a": 1.0}, object(), np.ones(2, np.float16), np.ones(2, np.longdouble)],
    ids=lambda one: type(one).__name__,
)
def test_a_value_of_an_unknown_type_is_refused_in_one_line(value):
    with pytest.raises(fg.DtypeError, match=r"^x is ") as found:
        fg.gradient(total)(value)
    assert "\n" not in str(found.value)


def test_higher_derivatives_of_a_constant_are_zero():
    assert fg.taylor(lambda x: 1, 2.0, 1.0, order=2) == [1, 0.0, 0.0]


def log_determinant(x):
    return np.linalg.slogdet(np.outer(x, x) + np.eye(3) * x[0])[1]


def test_the_laplacian_goes_through_functions_whose_value_is_a_tuple():
    x = np.array([1.0, 2.0, 3.0])
    SAME_FUNCTION.check(fg.laplacian(log_determinant)(x), np.trace(fg.hessian(log_determinant)(x)))


def by_names_of_fields(x):
    both = Pair(second=x[0] * x[0], first=x[1])
    return 3.0 * both.first + both.second


def test_a_named_tuple_is_made_by_names_of_its_fields():
    found = fg.jvp(by_names_of_fields, (np.array([2.0, 5.0]),), (np.array([1.0, 10.0]),))
    assert found == (19.0, 34.0)
