"""Documentation: the README's code runs and states the truth, and every public name has a docstring."""

import inspect
import re

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.estimators import RECIPES
from tests.places import ROOT

ESTIMATORS = (ROOT / "fgnumba" / "estimators" / "README.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_estimator_has_its_line():
    named = set(re.findall(r"^\| `([a-z-]+)` \|", ESTIMATORS, re.M))
    assert named == set(RECIPES)


def test_the_code_in_the_readmes_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codes = re.findall(r"```python\n(.*?)```", README + ESTIMATORS, re.S)
    assert len(codes) == 3
    for code in codes:
        exec(compile(code, "README.md", "exec"), {})
        printed = capsys.readouterr().out
        promised = re.search(r"print\(.*\)  # at least (0\.\d+)", code)
        if promised:
            assert float(printed) >= float(promised[1])
        assert bool(printed) == ("print(" in code)


def test_the_code_that_made_the_digits_makes_them(tmp_path, monkeypatch):
    folder = ROOT / "fgnumba" / "datasets"
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    with np.load(folder / "digits.npz") as kept, np.load("digits.npz") as made:
        assert set(kept) == set(made)
        for name in kept:
            assert np.array_equal(kept[name], made[name])


def test_the_readme_has_the_two_commands():
    assert "\n    pip install . && fgtrain train" in README
    assert "\n    pip install -e '.[test]' && pytest" in README


def test_the_figures_of_the_readme_are_those_of_the_page_of_benchmarks():
    page = (ROOT / "docs" / "project" / "benchmarks.md").read_text(encoding="utf-8").splitlines()
    rows = re.findall(r"^\| .*\d\.\d.* \|$", README, re.M)
    assert len(rows) == 6
    for row in rows:
        assert row in page


def public():
    for name in fg.__all__:
        value = getattr(fg, name)
        if inspect.ismodule(value):
            members = getattr(value, "__all__", [n for n in vars(value) if not n.startswith("_")])
            for member in members:
                inner = getattr(value, member)
                if getattr(inner, "__module__", "").startswith("fgnumba"):
                    yield f"{name}.{member}", inner
        else:
            yield name, value


@pytest.mark.parametrize(("name", "value"), list(public()), ids=lambda v: v if isinstance(v, str) else "")
def test_everything_public_has_a_docstring(name, value):
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return
    assert inspect.getdoc(value), name
    if inspect.isclass(value):
        for member, function in vars(value).items():
            if not member.startswith("_") and (
                inspect.isfunction(function) or isinstance(function, property)
            ):
                assert inspect.getdoc(function), f"{name}.{member}"


def test_every_fault_is_shown_by_tests_that_are_there():
    text = (ROOT / "RELIABILITY.md").read_text(encoding="utf-8")
    file, found = None, 0
    for name, test in re.findall(r"`(test_\w+\.py)?::(test_\w+)`", text):
        file = name or file
        assert file is not None
        texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob(file)]
        assert any(f"def {test}(" in text for text in texts), f"{file}::{test}"
        found += 1
    assert found > 50
