"""The page of supported functions, written from Numba's registries, the rules and the cases of the tests.

``python -m tests.functions.function_page`` writes it anew.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from fgnumba.functions.names import NAMES
from fgnumba.functions.partials import SCALAR_FUNCTIONS
from fgnumba.functions.registry import RULES
from fgnumba.functions.rules import __all__ as _rules  # noqa: F401 - it fills the registry
from tests.functions.catalogue import numba_functions
from tests.functions.function_cases import GROUPS
from tests.functions.zero_cases import REFUSED, WITHOUT_NUMBERS, ZEROS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "differentiable-functions.md"
TESTS = "tests/functions/test_functions.py"

HEAD = f"""# Functions with derivatives

Every function of `math` and `numpy` that Numba supports stands in one of the tables below. `fg.differentiable` refuses
what stands in the last one when a function is compiled, with one line that names function, file and line. This page is
written from Numba's registries and the rules; a test compares.

## Conventions

At kinks the derivatives are those of JAX: |x| has slope 1 at 0; `np.maximum`, `np.minimum`, `max` and `min` give each
of two equal values half of the tangent, `np.fmax` and `np.fmin` all of it to the second; the maximum and minimum of
an array give equal shares to all elements that tie; `np.hypot` gives each a half at (0, 0); `x ** n` has slope 0 for
the integer n = 0, and NaN at 0 for the float 0.0; √x has slope ∞ at 0, the norm of a zero vector NaN. `np.where` and
branches take the tangent of the value that was taken and never touch the other, so that a NaN there does no harm.
`np.interp` takes the piece to the right of a knot. `np.sort` is stable. The determinant of a singular matrix has its
exact derivative. Complex numbers carry one tangent at a time, through the analytic functions of the table.

## With a derivative

y is the value, and the arguments are named as in the column. Tests: the groups of `{TESTS}`.

| function | tangent | group |
| --- | --- | --- |
"""


def _object(name: str) -> Any:
    return eval(name, {"np": np, "math": math})


def _tangent(function: Any) -> str:
    rule = RULES.get(function)
    if rule is not None:
        arguments = ", ".join(rule.differentiated)
        return {
            "same": "the same function of the tangents",
            "linear": "the same function of the tangents",
            "identity": "the tangent of the argument",
            "formula": f"a formula, for {arguments}",
            "composed": f"of what computes it from other functions, for {arguments}",
        }[rule.kind]
    if function is float:
        return "the conversion of the tangent"
    scalar = SCALAR_FUNCTIONS[NAMES[function]]
    return "; ".join(
        f"∂y/∂{argument} = `{partial}`"
        for argument, partial in zip(scalar.arguments, scalar.partials, strict=True)
    )


def supported() -> str:
    """Return the page without the table of refused functions."""
    groups = {id(_object(name)): group for group, cases in GROUPS.items() for name in cases}
    functions = numba_functions()
    rows = [
        f"| `{name}` | {_tangent(value)} | {groups[id(value)]} |"
        for name, value in sorted(functions.items())
        if id(value) in groups
    ]
    zeros = {id(_object(name)) for name in ZEROS}
    constants = {id(_object(name)) for name in WITHOUT_NUMBERS}
    return "\n".join(
        (
            HEAD + "\n".join(rows),
            "",
            "## Derivative zero",
            "",
            "Counting, comparing, rounding and finding places: the derivative is zero wherever there is one. Test:",
            "`test_piecewise_constant_functions_have_zero_tangents`.",
            "",
            _listed([name for name, value in functions.items() if id(value) in zeros]),
            "",
            "Functions of integers, shapes and Booleans alone, and random numbers without parameters, are constant.",
            "",
            _listed([name for name, value in functions.items() if id(value) in constants]),
            "",
            "## Refused",
            "",
            "With an argument that carries a tangent. Test:",
            "`test_functions_without_a_rule_are_refused_by_name_and_line`.",
            "Random numbers are constants, and their parameters carry no tangent: write `m + s * np.random.randn()`.",
            "",
            "| function | message |",
            "| --- | --- |",
        )
    )


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) + "."


def refused_row(name: str, message: str) -> str:
    """Return a row of the table of refused functions; `message` is the error's, with function, file and line."""
    return f"| `{name}` | {message.removeprefix('refused: ').partition(' (program.py')[0]} |"


def write() -> None:
    """Write the page."""
    from tests.functions.test_catalogue import refusal_of

    text = supported()
    rows = [refused_row(name, refusal_of(name)) for name in sorted(REFUSED)]
    PAGE.write_text("\n".join((text, *rows)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
