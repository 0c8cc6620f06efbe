"""Documentation: the README's code runs and says the truth, and everything public explains itself."""

import inspect
import re
from pathlib import Path

import pytest

import fgnumba as fg

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_code_in_the_readme_runs(capsys):
    codes = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(codes) == 2
    for code in codes:
        exec(compile(code, "README.md", "exec"), {})
        printed = capsys.readouterr().out
        promised = re.search(r"print\(.*\)  # at least (0\.\d+)", code)
        if promised:
            assert float(printed) >= float(promised[1])
        assert printed


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
