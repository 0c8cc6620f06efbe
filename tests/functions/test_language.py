"""What programs of Python and Numba consist of: names, branches, exceptions, options, calls; and what is refused."""

import threading
from collections import namedtuple

import numpy as np
import pytest
from numba import njit, prange

import fgnumba as fg

Point = namedtuple("Point", "a b")
SCALE = np.array([2.0, 3.0])


@njit
def unsupported(x):
    return np.linalg.eig(x)[0]


@njit
def between(x):
    return unsupported(x)


@njit
def factorial(n, x):
    if n <= 1:
        return x
    return x * factorial(n - 1, x)


def versions(s, n):
    total = 0
    for _ in range(n):
        total += s
    s_1 = total * 2
    total = s_1 * s
    s_2 = sˑ1 = total
    sʹ = sˑ1 + s_2
    return total + s_1 + sʹ


def early(x):
    if x > 0:
        return 1
    return x * x


def guarded(x):
    try:
        if x > 1.0:
            raise ValueError("too large")
        y = x * x
    except Exception:
        y = 3.0 * x
    return y


def halved(x):
    n = 0
    while x > 1.0:
        x = x * 0.5
        n += 1
        if n > 10:
            break
    else:
        x = x * 3.0
    return x


def with_option(x, w=None):
    if w is None:
        return x * x
    return x * w


def structured(p, mode, k):
    def inner(y):
        return y * SCALE[k]

    if mode == "named":
        return Point(inner(p.a * p.b), k)
    return Point(p.a, k)


@njit(parallel=True)
def summed(x):
    total = 0.0
    for i in prange(len(x)):
        total += x[i] * x[i]
    return total


def test_values_and_derivatives():
    for function, primals, tangents, right in (
        # 2 n s + 2 n s² (1 + 2)
        (versions, (3.0, 4), (1.0, None), 8.0 + 3 * 2 * 8.0 * 3.0),
        (early, (2.0,), (1.0,), 0.0),
        (early, (-2.0,), (1.0,), -4.0),
        (guarded, (2.0,), (1.0,), 3.0),
        (guarded, (0.5,), (1.0,), 1.0),
        (halved, (5.0,), (1.0,), 0.375),
        (with_option, (2.0,), (1.0,), 4.0),
        (with_option, (2.0, 3.0), (1.0, None), 3.0),
        (summed, (np.arange(4.0),), (np.ones(4),), 12.0),
    ):
        assert fg.jvp(function, primals, tangents) == (function(*primals), right), function.__name__


def test_named_tuples_strings_closures_and_global_arrays():
    value, derivative = fg.jvp(structured, (Point(2.0, 5.0), "named", 1), (Point(1.0, None), None, None))
    assert value == Point(30.0, 1)
    assert derivative == Point(15.0, 0.0)


def test_exceptions_are_those_of_the_function():
    def checked(x):
        # pytest rewrites an assert statement to code that Numba does not know.
        if x == 2.0:
            raise ValueError("two")
        return 1.0 / x

    with pytest.raises(ZeroDivisionError):
        fg.jvp(checked, (0.0,), (1.0,))
    with pytest.raises(ValueError, match="two"):
        fg.jvp(checked, (2.0,), (1.0,))


@pytest.mark.parametrize(
    ("function", "x", "place"),
    [
        (lambda x: between(x), np.eye(2), "unsupported: numpy.linalg.eig"),
        (lambda x: factorial(3, x), 2.0, "factorial: it calls itself"),
    ],
    ids=["in a callee's callee", "recursion"],
)
def test_refusals_name_function_file_and_line(function, x, place):
    for call in (lambda: fg.jvp(function, (x,), (x,)), lambda: fg.gradient(function)(x)):
        with pytest.raises(fg.DifferentiationError) as info:
            call()
        assert str(info.value).startswith(place)
        assert "\n" not in str(info.value)
        assert __file__ in str(info.value)


def test_float32_stays_float32():
    def several(x):
        return x * x, np.maximum(x, np.float32(0)), np.exp(x), np.abs(x)

    x = np.ones(3, np.float32)
    values, derivatives = fg.jvp(several, (x,), (x,))
    assert {one.dtype for one in (*values, *derivatives)} == {np.dtype(np.float32)}


def test_threads_compile_and_call_at_once():
    function = fg.differentiable(lambda x: np.sum(x * x * x))
    found = {}

    def run(number):
        found[number] = fg.gradient(function)(np.full(3, number))

    threads = [threading.Thread(target=run, args=(float(number),)) for number in range(1, 4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for number in (1.0, 2.0, 3.0):
        np.testing.assert_array_equal(found[number], np.full(3, 3.0 * number**2))
