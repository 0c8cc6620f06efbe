"""Differentiable functions as objects, and what the types of local variables may be."""

import copy
import pickle
from typing import Any

import numba
import numpy as np
import pytest

import fgnumba as fg
from tests import tolerances_functions


@fg.differentiable(nondiff="scale")
def scaled(x, scale):
    return scale * x * x


def test_a_copy_and_a_pickle_are_the_same_function():
    for again in (pickle.loads(pickle.dumps(scaled)), copy.deepcopy(scaled)):
        assert again.nondiff == {"scale"}
        assert fg.jvp(again, (3.0, 2.0), (1.0, None)) == (18.0, 12.0)


def test_a_derivative_is_not_pickled():
    with pytest.raises(TypeError, match=r"^gradient\(scaled\) cannot be pickled"):
        pickle.dumps(fg.gradient(scaled))


def test_the_source_of_a_derivative_is_that_of_its_single_passes():
    gradient: Any = fg.gradient(lambda x: x[0] * x[1])
    assert gradient.tangent_source(np.ones(2)).startswith("def gradient_tangent(x; x′):")


def begins_as_integer(x):
    pair = (0, 1.0)
    for _ in range(3):
        pair = (pair[0] + x, pair[1] * x)
    return pair[0] + pair[1]


def test_a_tuple_may_begin_with_an_integer():
    # 3 x + x^3
    assert fg.jvp(begins_as_integer, (2.0,), (1.0,)) == (14.0, 15.0)


def test_types_of_local_variables_are_refused():
    @numba.njit(locals={"y": numba.float32})
    def narrow(x):
        y = x * x
        return y + 0.0

    with pytest.raises(fg.DifferentiationError, match=r"narrow .*it is compiled with locals="):
        fg.jvp(narrow, (1.1,), (1.0,))


def changed_in_place(u, index):
    u = u.copy()
    part = u[1:]
    u[1:-1] += u[2:] * u[0]
    u[::2] *= 3.0
    u[index] += u[0]
    u[0] += u[1]
    return u.sum() + part[0] * u[0]


def test_writes_to_a_part_change_the_array_once():
    # u[index] is a copy, which is stored; the views of slices are changed where they are.
    x, v = np.array([0.3, 0.5, 0.7, 1.1]), np.array([1.0, -1.0, 2.0, 0.5])
    index, step = np.array([0, 2, 2]), 1e-20
    value, derivative = fg.jvp(changed_in_place, (x, index), (v, None))
    assert value == changed_in_place(x, index)
    expected = changed_in_place(x + 1j * step * v, index).imag / step
    tolerances_functions.SAME_FUNCTION.check(derivative, expected)
