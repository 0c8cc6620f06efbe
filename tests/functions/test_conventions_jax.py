"""The literal values of conventions at kinks are JAX's: compared with the version that is installed."""

import pytest

from tests.functions.convention_cases import ARRAYS, ONE, POWERS, SECOND, TWO
from tests.functions.test_conventions import same

jax = pytest.importorskip("jax")


@pytest.fixture(autouse=True)
def _double_precision():
    with jax.enable_x64(True):
        yield


def function(name, arguments):
    return eval(f"lambda {arguments}: {name}", {"np": jax.numpy})


def test_functions_of_one_number():
    for name, x, value, derivative in ONE:
        found = jax.jvp(function(name, "x"), (x,), (1.0,))
        same(found, (value, derivative), f"{name} at {x}")


def test_functions_of_two_numbers():
    for name, x, y, value, *derivatives in TWO:
        for tangents, expected in zip(((1.0, 0.0), (0.0, 1.0)), derivatives, strict=True):
            found = jax.jvp(function(name, "x, y"), (x, y), tangents)
            same(found, (value, expected), f"{name} at {x}, {y} along {tangents}")


def test_powers_with_one_constant_argument():
    for x, y, value, in_x, in_y in POWERS:
        # A Python number as an exponent would be a literal, for which there is another rule.
        given = jax.numpy.asarray(x), jax.numpy.asarray(y)
        same(jax.jvp(lambda a, y=given[1]: a**y, given[:1], (1.0,)), (value, in_x), f"{x} ** {y} in x")
        same(jax.jvp(lambda b, x=given[0]: x**b, given[1:], (1.0,)), (value, in_y), f"{x} ** {y} in y")


def test_functions_of_arrays():
    for name, a, tangent, value, expected in ARRAYS:
        given = jax.numpy.asarray(a), jax.numpy.asarray(tangent)
        values, found = jax.jvp(function(name, "a"), given[:1], given[1:])
        same(values, value, f"{name} at {a}")
        same(found, expected, f"tangent of {name} at {a}")


def test_second_derivatives():
    for name, x, value, first, second in SECOND:
        f = function(name, "x")
        found = jax.jvp(lambda x, f=f: jax.jvp(f, (x,), (1.0,))[1], (x,), (1.0,))
        same((f(x), *found), (value, first, second), f"{name} at {x}")
