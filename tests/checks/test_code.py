"""Names of code: what is imported, and what is refused in one line."""

import re
import sys
from typing import Any

import pytest

from fgnumba.errors import ConfigError
from fgnumba.objects.code import (
    EVERYTHING,
    GROUPS,
    LOSSES_GROUP,
    code_of,
    external,
    installed,
    is_code,
    made,
    name_of,
    trusted,
    trusting,
)
from tests.plugins import module, package

MODULE = """
class Base:
    pass

class Kind(Base):
    pass

class Needs(Base):
    def __init__(self, number):
        self.number = number

def function(x):
    return x

thing = Kind()
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a folder on sys.path with the module ``given_code``."""
    monkeypatch.syspath_prepend(tmp_path)
    module(tmp_path, "given_code", MODULE)
    yield tmp_path
    sys.modules.pop("given_code", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("module:name", True),
        ("package.module:Class.method", True),
        ("digits", False),
        ("a-b:c", False),
        ("module:", False),
        (":name", False),
        ("module:name()", False),
        ("a..b:c", False),
        ("a:b\n", False),
        ("a" * 500 + ":b", False),
        (7, False),
    ],
)
def test_the_form_of_a_name(text, expected):
    assert is_code(text) is expected


def test_code_is_imported_only_where_it_is_trusted(site):
    with pytest.raises(
        ConfigError, match=r"^loss is 'given_code:function', code that .*--trust-code given_code"
    ):
        code_of("loss", "given_code:function")
    assert "given_code" not in sys.modules
    with trusting(["given_code:function"]):
        assert code_of("loss", "given_code:function")(3) == 3
        with pytest.raises(ConfigError, match="trust-code given_code:thing"):
            code_of("loss", "given_code:thing")
        with trusting([EVERYTHING]):
            assert type(code_of("loss", "given_code:thing")).__name__ == "Kind"
    assert trusted() == frozenset()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:f", "loss is 'no_such_module:f'; there is no module 'no_such_module', neither"),
        ("given_code.inner:f", "there is no module 'given_code.inner', neither"),
        ("given_code:functoin", r"there is no 'functoin' in it \(did you mean 'function'\?\)$"),
        ("given_code:thing.name", "there is no 'name' in it"),
        ("given_code", "a name such as 'package.module:name' is required$"),
    ],
)
def test_what_is_not_there_is_named(site, name, message):
    with trusting([EVERYTHING]), pytest.raises(ConfigError, match=message):
        code_of("loss", name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_package_at_all", "broken cannot be imported: ModuleNotFoundError: No module named"),
        ("1 / 0", "broken cannot be imported: ZeroDivisionError: division by zero$"),
        ("def f(:", "broken cannot be imported: SyntaxError: "),
        ("raise SystemExit('usage: …')", "broken cannot be imported: SystemExit: usage: …$"),
        ("import fgnumba as fg\nfg.Dense(0)", "broken cannot be imported: Dense: units"),
    ],
)
def test_a_module_that_fails_is_one_line(site, source, message):
    module(site, "broken", source)
    with trusting(["broken:f"]), pytest.raises(ConfigError, match=message) as caught:
        code_of("loss", "broken:f")
    assert "\n" not in str(caught.value)


def test_the_current_folder_is_searched_last(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    monkeypatch.chdir(tmp_path)
    module(tmp_path, "beside_us", "value = 5")
    try:
        with trusting(["beside_us:value"]):
            assert code_of("loss", "beside_us:value") == 5
        assert sys.path[-1] == str(tmp_path)
    finally:
        sys.modules.pop("beside_us", None)


@pytest.mark.parametrize("names", ["os system", ["a:b", 3], 5])
def test_names_to_trust_are_checked(names):
    with pytest.raises(ConfigError, match=r"^trust_code is .*names such as"), trusting(names):
        pass


@pytest.mark.parametrize("group", GROUPS)
def test_entry_points_of_installed_packages_are_found(site, group):
    package(site, "given-package", {group: {"mine": "given_code:function", "lost": "given_code:nothing"}})
    assert {"mine", "lost", "given-package:mine"} <= installed(group).keys()
    for name in ("mine", "given-package:mine"):
        found: Any = external("loss", name, group)
        assert found(4) == 4
    assert external("loss", "other", group) is None
    with pytest.raises(
        ConfigError, match=r"^loss: lost of the package given-package: its entry point 'given_code"
    ):
        external("loss", "lost", group)


def test_a_name_of_two_packages_needs_the_package(site):
    for name in ("first", "second"):
        package(site, name, {LOSSES_GROUP: {"shared": f"given_code:{'Kind' if name == 'first' else 'Base'}"}})
    assert external("loss", "shared", LOSSES_GROUP) is None
    for name, kind in (("first:shared", "Kind"), ("second:shared", "Base")):
        found: Any = external("loss", name, LOSSES_GROUP)
        assert found.__name__ == kind


def test_an_entry_point_needs_no_trust_and_a_module_does(site):
    package(site, "given-package", {LOSSES_GROUP: {"mine": "given_code:thing"}})
    assert type(external("loss", "mine", LOSSES_GROUP)).__name__ == "Kind"
    with pytest.raises(ConfigError, match="trust-code"):
        external("loss", "given_code:thing", LOSSES_GROUP)


def test_an_object_is_made_of_a_class(site):
    with trusting([EVERYTHING]):
        base, kind, needs, function, thing = (
            code_of("loss", f"given_code:{name}") for name in ("Base", "Kind", "Needs", "function", "thing")
        )
    assert made("loss", "n", thing, base) is thing
    assert type(made("loss", "n", kind, base)) is kind
    with pytest.raises(ConfigError, match=r"loss is 'n', a class that cannot be called without arguments"):
        made("loss", "n", needs, base)
    with pytest.raises(ConfigError, match=r"loss is 'n', which is .*; a Base, or its subclass, is required"):
        made("loss", "n", function, base)


def test_a_name_is_given_only_where_it_finds_the_object_again(site):
    with trusting([EVERYTHING]):
        function = code_of("loss", "given_code:function")
    assert name_of(function) == "given_code:function"
    assert name_of(lambda x: x) is None
    assert name_of(function(3)) is None

    def inner(x):
        return x

    assert name_of(inner) is None
    assert re.fullmatch(r"tests\..*:module", str(name_of(module)))
