"""Examples: every script in ``examples/`` runs by itself, prints a result, and opens as the gallery wants it."""

import ast
import re

import pytest

from tests.apart import python
from tests.places import ROOT

SCRIPTS = sorted((ROOT / "examples").rglob("*.py"))


def test_there_are_examples():
    assert len(SCRIPTS) >= 12 + 12


def imported(script):
    """Return the packages that a script imports at its top, and those behind them, without which it cannot run."""
    found = set()
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    # `Trainer.fit` reads frames by way of narwhals, and what ONNX Runtime runs is written by onnx.
    behind = {"pandas": "narwhals", "polars": "narwhals", "pyarrow": "narwhals", "onnxruntime": "onnx"}
    return sorted(found | {behind.get(package, package) for package in found})


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs_by_itself(script, tmp_path):
    for package in imported(script):
        pytest.importorskip(package)
    process = python(str(script), folder=tmp_path, MPLBACKEND="Agg", FGNUMBA_SHORT="1")
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short_and_opens_with_a_title(script):
    text = script.read_text(encoding="utf-8")
    most = 60 if script.parent.name == "examples" else 100
    assert 30 <= len(text.splitlines()) <= most
    title, line, *explanation = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    assert re.fullmatch("=+", line)
    assert len(line) == len(title)
    assert len(" ".join(explanation)) > 100


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_uses_public_names_alone(script):
    allowed = {"fgnumba", "fgnumba.bench", "fgnumba.bench.reverse", "fgnumba.sklearn"}
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fgnumba"):
            assert node.module in allowed
        elif isinstance(node, ast.Import):
            assert {alias.name for alias in node.names if alias.name.startswith("fgnumba")} <= {"fgnumba"}
