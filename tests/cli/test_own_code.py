"""Code of other packages on the command line: names in options and files, trust, and entry points."""

import sys
from typing import Any

import pytest

import fgnumba as fg
from fgnumba.cli.completion import names
from fgnumba.cli.info import entry_points
from fgnumba.datasets.catalog import is_external
from tests.plugins import module, package

MODULE = """
import math
import fgnumba as fg

def swish(z):
    return z / (1 + math.exp(-z))

data = fg.datasets.load("digits")

def made():
    return data

def broken():
    raise OSError("no room")

estimator = fg.WeightPerturbation("rank1", directions=2)
loss = fg.SoftmaxCrossEntropy()
number = 7
"""

NET = """
[[layers]]
type = "flatten"
[[layers]]
type = "dense"
units = 16
activation = "own_code:swish"
[[layers]]
type = "dense"
units = 16
[[layers]]
type = "elementwise"
function = "own_code:swish"
[[layers]]
type = "dense"
units = "classes"
"""


@pytest.fixture
def here(folder, monkeypatch):
    """Work in a folder with a module ``own_code`` and a model that names it."""
    monkeypatch.syspath_prepend(folder)
    module(folder, "own_code", MODULE)
    (folder / "net.toml").write_text(NET, encoding="utf-8")
    yield folder
    sys.modules.pop("own_code", None)


TRAIN = ("train", "--quiet", "--steps", "3", "--device", "cpu")
TRUST = ("--trust-code", "own_code:swish")


def test_a_model_with_code_trains_and_its_run_folder_asks_for_trust(here, fgtrain):
    assert fgtrain(*TRAIN, "--model", "net.toml", "--out", "a").code == 0
    untrusted = "layers[1]: activation is 'own_code:swish', code that is not fgnumba's own"
    for command in (
        ("evaluate", "a"),
        ("train", "--resume", "a", "--steps", "5"),
        ("export", "a", "--format", "onnx", "--output", "m.onnx"),
    ):
        sys.modules.pop("own_code", None)
        assert untrusted in fgtrain(*command).error
        assert "own_code" not in sys.modules
    assert "accuracy" in fgtrain("evaluate", "a", *TRUST).out
    assert fgtrain("train", "--quiet", "--resume", "a", "--steps", "5", *TRUST).code == 0
    # What only reads the folder's files runs nothing, and asks for nothing.
    assert "net.toml" in fgtrain("runs", "a").out


def test_a_run_folders_settings_ask_for_trust_too(here, fgtrain):
    assert fgtrain(*TRAIN, "--model", "net.toml", "--out", "a").code == 0
    message = fgtrain(*TRAIN, "--config", "a/config.toml", "--out", "b").error
    assert message.startswith("a/config.toml: layers[1].activation is 'own_code:swish', code that")
    assert not (here / "b").exists()
    assert fgtrain(*TRAIN, "--config", "a/config.toml", "--out", "b", *TRUST).code == 0


def test_a_model_file_that_a_run_folders_settings_name_asks_for_trust(here, fgtrain):
    (here / "config.toml").write_text('model = "net.toml"\n[run]\nclasses = 10\n', encoding="utf-8")
    message = fgtrain(*TRAIN, "--config", "config.toml", "--out", "b").error
    assert message.startswith("config.toml: model: layers[1].activation is 'own_code:swish', code that")
    assert "own_code" not in sys.modules
    assert fgtrain(*TRAIN, "--config", "config.toml", "--out", "b", *TRUST).code == 0
    # An option is the user's own word.
    assert fgtrain(*TRAIN, "--config", "config.toml", "--model", "net.toml", "--out", "c").code == 0


def test_load_asks_for_trust(here, fgtrain):
    assert fgtrain(*TRAIN, "--model", "net.toml", "--out", "a").code == 0
    with pytest.raises(fg.errors.CodeError, match=r"^a/config\.toml: .*trust_code='own_code:swish'"):
        fg.load("a")
    model = fg.load("a", "cpu", "own_code:swish")
    assert model.summary().count("swish") == 2


def test_a_module_that_is_gone_is_no_damage(here, fgtrain):
    assert fgtrain(*TRAIN, "--model", "net.toml", "--out", "a").code == 0
    (here / "own_code.py").unlink()
    sys.modules.pop("own_code", None)
    message = fgtrain("evaluate", "a", *TRUST).error
    assert message.endswith(
        "'own_code:swish'; there is no module 'own_code', neither installed nor in the current folder"
    )
    assert "damaged" not in message


def test_data_estimator_and_loss_by_name(here, fgtrain):
    options = ("--data", "own_code:made", "--estimator", "own_code:estimator", "--loss", "own_code:loss")
    assert fgtrain(*TRAIN, *options, "--model", "logreg", "--out", "a").code == 0
    text = (here / "a/config.toml").read_text(encoding="utf-8")
    assert 'data = "own_code:made"' in text
    assert 'estimator = "own_code:estimator"' in text
    assert fgtrain("evaluate", "a").error.startswith("loss is 'own_code:loss', code that")
    trust = [word for name in ("made", "estimator", "loss") for word in ("--trust-code", f"own_code:{name}")]
    assert "accuracy" in fgtrain("evaluate", "a", *trust).out
    # An option beside the folder is the user's own word.
    assert "accuracy" in fgtrain("evaluate", "a", *trust[2:], "--data", "own_code:data").out


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        (
            "--estimator",
            "own_code:number",
            "estimator is 'own_code:number', which is 7; a Estimator, or its subclass",
        ),
        ("--estimator", "own_code:nothing", "estimator is 'own_code:nothing'; there is no 'nothing' in it"),
        ("--loss", "nowhere:loss", "loss is 'nowhere:loss'; there is no module 'nowhere', neither"),
        ("--data", "own_code:number", "data 'own_code:number' is 7; a fgnumba.datasets.Dataset is required"),
        ("--data", "own_code:broken", "data 'own_code:broken': OSError: no room"),
    ],
)
def test_what_is_no_such_thing_is_one_line(here, fgtrain, option, name, message):
    assert fgtrain(*TRAIN, "--model", "logreg", option, name, "--out", "a").error.startswith(message)
    assert not (here / "a").exists()


@pytest.mark.parametrize("name", ["os system", "module", "a:b:c"])
def test_a_name_to_trust_has_a_form(here, fgtrain, name):
    assert fgtrain("evaluate", "a", "--trust-code", name).error.startswith("trust_code is ")


def test_entry_points_are_names(here, fgtrain):
    package(
        here,
        "their-package",
        {
            "fgnumba.estimators": {"theirs": "own_code:estimator"},
            "fgnumba.losses": {"their-loss": "own_code:loss"},
            "fgnumba.datasets": {"their-digits": "own_code:made", "gone": "own_code:gone"},
        },
    )
    options = ("--data", "their-digits", "--estimator", "theirs", "--loss", "their-package:their-loss")
    assert fgtrain(*TRAIN, *options, "--model", "logreg", "--out", "a").code == 0
    # An installed package is trusted: whoever installed it has asked for it.
    assert "accuracy" in fgtrain("evaluate", "a").out
    assert fgtrain(*TRAIN, "--config", "a/config.toml", "--out", "again").code == 0
    assert "dataset their-digits of their-package" in entry_points()
    listed = fgtrain("info", "--json").json()["entry_points"]
    assert {"estimator theirs of their-package", "loss their-loss of their-package"} <= set(listed)
    complete: Any = names(("feedback",), group="fgnumba.estimators")
    assert [item.value for item in complete(None, None, "the")] == ["theirs"]
    message = fgtrain(*TRAIN, "--data", "gone", "--out", "b").error
    assert message.startswith(
        "data: gone of the package their-package: its entry point 'own_code:gone' cannot be"
    )
    assert "did you mean 'their-digits'" in fgtrain(*TRAIN, "--data", "their-digit", "--out", "b").error
    assert "did you mean 'theirs'" in fgtrain(*TRAIN, "--estimator", "their", "--out", "b").error


def test_a_file_comes_before_a_name(here):
    package(here, "their-package", {"fgnumba.datasets": {"mine": "own_code:made"}})
    assert is_external("mine")
    (here / "mine").mkdir()
    assert not is_external("mine")
    assert not is_external("digits")
    assert is_external("own_code:data")
