"""No tangent is dropped silently: every function of Numba has a case, or is refused when it is compiled."""

import inspect
import math
import operator
from typing import Any

import numpy as np
import pytest
from numba import float64, njit, objmode, types, vectorize
from numba.experimental import jitclass

from fgnumba.errors import DifferentiationError
from fgnumba.functions.differentiable import tangent_of
from tests.functions.catalogue import numba_functions
from tests.functions.function_cases import GROUPS, PREAMBLE, names_in
from tests.functions.function_page import PAGE, refused_row, supported
from tests.functions.zero_cases import REFUSED, WITHOUT_NUMBERS, ZEROS


@vectorize
def squared(x):
    return x * x


@jitclass([("value", float64)])
class Box:
    def __init__(self):
        self.value = 0.0

    def put(self, value):
        self.value = value


SPACE = {"np": np, "math": math, "operator": operator, "squared": squared, "Box": Box, "objmode": objmode}


def looked_up(name: str) -> Any:
    return eval(name, dict(SPACE))


def test_every_function_of_numba_has_a_case() -> None:
    cases = [*(name for group in GROUPS.values() for name in group), *ZEROS, *WITHOUT_NUMBERS, *REFUSED]
    covered = [looked_up(name) for name in cases]
    missing = [name for name, value in numba_functions().items() if not any(value is one for one in covered)]
    assert missing == []


def refusal(body: str, space: dict[str, Any] | None = None) -> str:
    """Return the message with which the tangent of a function of x is refused; "" if it is not."""
    used = [line for name, line in PREAMBLE.items() if name in names_in(body)]
    lines = [
        "def refused(x):",
        *(f"    {line}" for line in used),
        *(f"    {line}" for line in body.splitlines()),
    ]
    scope = {**SPACE, **(space or {})}
    exec(compile("\n".join([*lines, "    return x[0]"]) + "\n", "program.py", "exec"), scope)
    kind = types.Array(types.float64, 1, "C")
    tangent = tangent_of(njit(scope["refused"])).py_func.__fgnumba_tangent__
    try:
        tangent.transformation((kind, kind)).blocks()
    except DifferentiationError as error:
        return str(error)
    return ""


def refusal_of(name: str) -> str:
    """Return the message with which a function of the cases is refused."""
    body = f"y = {REFUSED[name]}"
    if name == "np.nditer":
        body = "y = 0.0\nfor value in np.nditer(a):\n    y += value.item()"
    return refusal(body)


@pytest.mark.parametrize("name", list(REFUSED))
def test_functions_without_a_rule_are_refused_by_name_and_line(name: str) -> None:
    message = refusal_of(name)
    assert message.startswith("refused: ")
    assert name.rsplit(".")[-1] in message
    assert "program.py:" in message
    assert len(message.splitlines()) == 1
    assert refused_row(name, message) in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_page_lists_all_functions() -> None:
    """``python -m tests.functions.function_page`` writes the page anew."""
    page = PAGE.read_text(encoding="utf-8")
    assert page.startswith(supported())
    rows = page.removeprefix(supported()).splitlines()
    assert [row.split("`")[1] for row in rows if row] == sorted(REFUSED)


OPERATIONS = {
    "an item of a dictionary": "d = {1: x[0]}\ny = d[1]",
    "an attribute": "y = np.ones(2)\ny = x.ctypes",
    "view as integers": "y = x.view(np.int64)[0]",
    "bytes": "y = x.tobytes()",
    "fill": "y = np.zeros(3)\ny.fill(s)",
    "sort in place": "x.sort()",
    "append to a list": "y = [1.0]\ny.append(s)",
    "sum of lists": "y = [s] + [1.0]",
    "product of lists": "y = [s] * 2",
    "set": "y = {s, 1.0}",
    "arguments in a tuple": "y = max(*(s, p))",
    "exp with a place for the result": "y = np.zeros(4)\nnp.exp(a, y)",
    "an operator in place as a function": "y = np.zeros(4)\noperator.iadd(y, a)",
    "a function under vectorize": "y = squared(a)",
    "a method of a class": "box = Box()\nbox.put(s)",
    "an attribute of a class": "box = Box()\nbox.value = s",
    "Python's own objects": "with objmode(y='float64'):\n    y = float(s)\nx[0] = y",
    "dot with a place for the result": "y = np.zeros(3)\nnp.dot(A, b, y)",
    "clip with a place for the result": "y = np.zeros(4)\nnp.clip(a, 0.0, 1.0, y)",
    "sum with a type": "y = np.sum(a, dtype=np.float64)",
    "absolute value of a complex number": "y = abs(s + 1j)",
}


@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_operations_without_a_rule_are_refused_by_line(operation: str) -> None:
    message = refusal(OPERATIONS[operation])
    assert message.startswith("refused")
    assert "program.py:" in message


def test_integers_take_no_tangent() -> None:
    assert refusal("y = np.zeros(2, np.int64)\ny[0] = s") == ""


def test_the_catalogue_names_functions_once() -> None:
    functions = list(numba_functions().values())
    assert len({id(one) for one in functions}) == len(functions)
    assert inspect.isbuiltin(numba_functions()["math.cos"])
