"""Derivatives at kinks, poles and ties: those of JAX, and the few that are our own."""

import re

import numpy as np
import pytest

import fgnumba as fg
from tests.functions.convention_cases import ARRAYS, ONE, OURS, POWERS, SECOND, TWO
from tests.tolerances_programs import CONVENTION

pytestmark = pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")


def compiled(arguments, expressions, pattern="({},)"):
    """Return a function of several expressions, so that they are compiled at once: by default, their tuple."""
    space = {"np": np}
    source = f"def f({arguments}):\n    return {pattern.format(', '.join(expressions))}\n"
    exec(compile(source, "<conventions>", "exec"), space)
    return space["f"]


def groups(rows):
    """Return the rows of a table in groups that are compiled at once, with their expressions.

    Python builds tuples of more than 30 entries in a way that Numba does not know. Operators that raise an exception at
    another row's point, and functions of square matrices, are kept apart.
    """

    def kind(name):
        return (" % " in name or " // " in name) + 2 * ("reshape" in name)

    names = list(dict.fromkeys(row[0] for row in rows))
    for which in sorted({kind(name) for name in names}):
        alike = [name for name in names if kind(name) == which]
        for first in range(0, len(alike), 16):
            part = alike[first : first + 16]
            yield part, [row for row in rows if row[0] in part]


def same(found, expected, what):
    CONVENTION.check(np.asarray(found), np.asarray(expected), what)


@pytest.mark.parametrize(("names", "rows"), list(groups(ONE)))
def test_functions_of_one_number(names, rows):
    f = compiled("x", names)
    for name, x, value, derivative in rows:
        values, tangents = fg.jvp(f, (x,), (1.0,))
        at = names.index(name)
        same((values[at], tangents[at]), (value, derivative), f"{name} at {x}")


@pytest.mark.parametrize(("names", "rows"), [*groups(TWO), *groups(OURS)])
def test_functions_of_two_numbers(names, rows):
    f = compiled("x, y", names)
    for name, x, y, value, *derivatives in rows:
        for tangents, expected in zip(((1.0, 0.0), (0.0, 1.0)), derivatives, strict=True):
            values, found = fg.jvp(f, (x, y), tangents)
            at = names.index(name)
            same((values[at], found[at]), (value, expected), f"{name} at {x}, {y} along {tangents}")


def test_powers_with_one_constant_argument():
    f = compiled("x, y", ["x ** y"])
    for x, y, value, in_x, in_y in POWERS:
        for tangents, expected in (((1.0, None), in_x), ((None, 1.0), in_y)):
            (power,), (found,) = fg.jvp(f, (x, y), tangents)
            same((power, found), (value, expected), f"{x} ** {y} along {tangents}")


@pytest.mark.parametrize("exponent", [0, 1, 2])
def test_powers_with_an_integer_that_is_no_literal(exponent):
    (power,), (found,) = fg.jvp(compiled("x, n", ["x ** n"]), (0.0, exponent), (1.0, None))
    same((power, found), ((1.0, 0.0, 0.0)[exponent], (0.0, 1.0, 0.0)[exponent]), f"0 ** {exponent}")


@pytest.mark.parametrize(("names", "rows"), list(groups(ARRAYS)))
def test_functions_of_arrays(names, rows):
    f = compiled("a", names)
    for name, a, tangent, value, expected in rows:
        values, found = fg.jvp(f, (np.array(a),), (np.array(tangent),))
        at = names.index(name)
        same(values[at], value, f"{name} at {a}")
        same(found[at], expected, f"tangent of {name} at {a}")


def test_second_derivatives():
    # One number for each row, so that all are compiled at once.
    entries = [re.sub(r"\bx\b", f"x[{i}]", row[0]) for i, row in enumerate(SECOND)]
    f = compiled("x", entries, "np.array([{}])")
    points = np.array([row[1] for row in SECOND])
    found = fg.taylor(f, points, np.ones_like(points), 2)
    for i, (name, x, *expected) in enumerate(SECOND):
        same([derivative[i] for derivative in found], expected, f"{name} at {x}")
