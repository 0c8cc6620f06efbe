"""The table of tolerances: no numeric test has its own, each entry is used, and the bounds hold."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from tests import tolerances
from tests.places import TESTS

TABLE, OWN = TESTS / "tolerances.py", Path(__file__)

COMPARISONS = {
    *("allclose", "approx", "isclose", "assert_allclose", "assert_almost_equal", "assert_approx_equal"),
    *(
        "assert_array_almost_equal",
        "assert_array_almost_equal_nulp",
        "assert_array_max_ulp",
        "assertAlmostEqual",
    ),
}
KEYWORDS = {"rtol", "atol", "rel", "abs", "rel_tol", "abs_tol", "rcond", "tol", "tolerance", "nulp", "maxulp"}
SMALL = 1e-3
"""What is compared with a number below this is compared with a rounding."""


def numbers(node: ast.AST) -> list[float]:
    """Return the numbers that are written in an expression, other than 0."""
    found = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
    return [one for one in found if isinstance(one, int | float) and not isinstance(one, bool) and one]


def literals(source: str) -> list[int]:
    """Return the lines of a test in which a tolerance is written."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            named = any(one.arg in KEYWORDS and numbers(one.value) for one in node.keywords)
            if name in COMPARISONS or named:
                found.append(node.lineno)
        elif isinstance(node, ast.Compare):
            ordered = any(isinstance(one, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for one in node.ops)
            if ordered and any(abs(one) < SMALL for one in numbers(node)):
                found.append(node.lineno)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = " ".join(ast.unparse(one) for one in targets)
            if re.search(r"(?i)tolerance|[ar]tol\b", names) and numbers(node.value):
                found.append(node.lineno)
    return sorted(set(found))


def sources() -> list[Path]:
    return [path for path in sorted(TESTS.rglob("*.py")) if path not in (TABLE, OWN)]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_has_a_tolerance_of_its_own(path):
    lines = literals(path.read_text(encoding="utf-8"))
    assert not lines, (
        f"{path.name}, lines {lines}: a tolerance belongs in tests/tolerances.py, with its derivation"
    )


@pytest.mark.parametrize(
    "source",
    [
        "np.testing.assert_allclose(a, b)",
        "assert a == pytest.approx(b)",
        "assert np.abs(a - b).max() < 1e-6",
        "assert x <= 1 + 1e-12",
        "check(a, b, atol=3 * 2e-5)",
        "def check(): numpy.linalg.lstsq(a, b, rcond=1e-9)",
        "TOLERANCE = 2e-6",
        "atol: float = 1e-6 if gaussian else 3e-6",
    ],
)
def test_a_tolerance_is_found(source):
    assert literals(source) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "tolerances.LOSS.check(a, b)",
        "assert error <= tolerances.DERIVATIVE * norm",
        "assert schedule(0) == 2e-4",
        "assert losses[-1] < 0.5 * losses[0]",
        "check(a, b, atol=0)",
        "optimizer = fg.SGD(1e-6)",
    ],
)
def test_what_is_no_tolerance_is_left_alone(source):
    assert literals(source) == []


def entries() -> dict[str, str]:
    """Return what stands beside each name of the table: a docstring, the string after it, the comments in it."""
    found: dict[str, str] = {}
    text = TABLE.read_text(encoding="utf-8")
    body, lines = ast.parse(text).body, text.splitlines()
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.get_docstring(node) or ""
        elif isinstance(node, ast.Assign):
            beside = " ".join(line.partition("#")[2] for line in lines[node.lineno - 1 : node.end_lineno])
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                beside += str(after.value.value)
            names = [one for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)]
            found |= {name.id: beside for name in names}
    return found


@pytest.mark.parametrize("name", entries())
def test_every_entry_says_where_it_comes_from_and_is_used(name):
    assert len(entries()[name]) > 30, f"{name} has no derivation beside it"
    used = re.compile(rf"\btolerances\.{name}\b")
    inside = len(re.findall(rf"\b{name}\b", TABLE.read_text(encoding="utf-8"))) > 1
    assert inside or any(used.search(path.read_text(encoding="utf-8")) for path in sources()), (
        f"{name} is used by no test"
    )


def test_a_bound_says_what_is_apart():
    bound = tolerances.Within(0.5, 1.0)
    bound.check([2.0, 4.0], [4.0, 7.0])
    with pytest.raises(AssertionError, match=r"weight[\s\S]*Max absolute difference"):
        bound.check([2.0, 4.0], [4.0, 11.0], "weight")
    with pytest.raises(AssertionError):
        bound.check([np.nan], [0.0])
    tolerances.Within().check([np.nan, 1.0], [np.nan, 1.0])


def test_sums_are_within_their_bound_in_any_order():
    rng = np.random.default_rng(0)
    for terms in (1, 12, 97, 561):
        x, y = rng.standard_normal((2, 400, terms)).astype(np.float32)
        exact = np.sum(x.astype(np.float64) * y, axis=1)
        products = x * y
        in_order = np.cumsum(products, axis=1)[:, -1]
        for found in (in_order, np.cumsum(products[:, ::-1], axis=1)[:, -1], np.sum(products, axis=1)):
            tolerances.sums(terms).check(found, exact)
        squares = np.cumsum(x * x, axis=1)[:, -1]
        tolerances.positive_sums(terms).check(squares, np.sum(x.astype(np.float64) ** 2, axis=1))


def test_differences_are_within_their_bound_and_near_it():
    # Four roundings a loss, of two losses a side, of two sides.
    rng = np.random.default_rng(0)
    for epsilon, loss, batch in ((1e-3, 1.4, 6), (1e-2, 3.5, 12), (1e-3, 0.1, 64)):
        half = np.spacing(np.float32(loss)) / 2
        errors = half * rng.uniform(-1, 1, (4000, 4, 2, 2, batch)).sum(axis=1).mean(axis=-1)
        both = np.abs(((errors[..., 0] - errors[..., 1]) / (2 * epsilon)) @ np.array([1, -1]))
        assert both.max() <= tolerances.difference(epsilon, loss, batch)
        assert both.max() > tolerances.difference(epsilon, loss, batch) / 2
        one = np.abs((errors[:, 0, 0] - errors[:, 0, 1]) / (2 * epsilon))
        assert one.max() <= tolerances.difference(epsilon, loss, batch, sides=1)


def test_a_difference_follows_its_epsilon_and_the_loss():
    bound = tolerances.difference(1e-3, 1.4, 6)
    assert tolerances.difference(1e-2, 1.4, 6) == bound / 10
    assert tolerances.difference(1e-3, 2.8, 6) == 2 * bound
    assert tolerances.difference(1e-3, 1.4, 24) == bound / 2
