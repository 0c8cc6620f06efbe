"""What cannot become an activation is refused in one line, with function, file and line."""

import math
import re
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import ConfigError
from tests import own_functions


def unknown_name(z):
    return z * NOWHERE  # type: ignore[name-defined]  # noqa: F821


def a_loop(z):
    while z > 1:
        z = z / 2
    return z


def no_return(z):
    if z > 0:
        return z


def itself(z):
    return itself(z - 1)


def one_branch(z):
    if z > 0:
        y = z
    return y


def indexed(z):
    return COEFFICIENTS[z]


COEFFICIENTS = [1.0, 2.0]


def two(a, b):
    return a + b


def calls_gamma(z):
    return 1 + gamma_of(z)


def gamma_of(z):
    return math.gamma(z)


def arrays(z):
    return np.array([z])


def text(z):
    return "z"


def rounded(z):
    return round(z)


def many(z):
    for _ in range(3000):
        z = z * z + 1
    return z


def leaves_a_loop(z):
    for c in COEFFICIENTS:
        if z > c:
            break
    return z


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (unknown_name, "NOWHERE is not defined"),
        (a_loop, "a while loop is not possible in a function of one number"),
        (no_return, "it may end without a return"),
        (itself, "its calls are more than 40 deep; a recursion is not possible"),
        (one_branch, "y has a value in one branch alone"),
        (indexed, "an index that depends on the number is not possible"),
        (two, "it cannot be called: one argument, a number, is required"),
        (text, "it returns str; a number is required"),
        (arrays, "a tuple is no number"),
        (rounded, "round is not possible in a function of one number; exp, log, .* are"),
        (many, "it has more than 2,000 operations with its derivatives"),
        (leaves_a_loop, "break, continue, else and return are not possible in a loop"),
    ],
    ids=lambda given: getattr(given, "__name__", "-"),
)
def test_what_is_not_possible_is_refused_with_function_file_and_line(function, reason):
    place = rf"activation {function.__name__} \(.*test_refused_activations\.py, line \d+\)"
    with pytest.raises(ConfigError, match=f"^{place}: {reason}$") as caught:
        fg.activation(function)
    found = re.search(r"line (\d+)", str(caught.value))
    assert found is not None
    line = int(found[1])
    first = function.__code__.co_firstlineno
    assert first <= line <= first + 4


def test_what_a_called_function_has_is_named_there():
    with pytest.raises(ConfigError, match=r"^activation gamma_of \(.*\): math.gamma is not possible"):
        fg.activation(calls_gamma)


def test_what_has_no_source_is_refused():
    names: dict[str, Any] = {}
    exec("def made(z):\n    return z", names)
    with pytest.raises(
        ConfigError, match=r"^activation made \(<string>, line 1\): its source cannot be read; "
    ):
        fg.activation(names["made"])
    for given in (3, "relu", math.exp, np.exp, None):
        with pytest.raises(
            ConfigError, match=r"^activation is .*; a Python function of one number is required$"
        ):
            fg.activation(given)
    function: Any = own_functions.swish
    with pytest.raises(
        ConfigError, match=r"^Dense: activation is <function .*>; fg.activation\(\.\.\.\) of it is"
    ):
        fg.Dense(3, activation=function)
