"""Losses and layers that are functions on the command line, by their names."""

import sys

import numpy as np
import pytest

from tests.plugins import module

MODULE = """
import numpy as np
import fgnumba as fg

def margin(z, y):
    worst = 0.0
    for n in range(len(z)):
        if n != y:
            worst = max(worst, 1 + z[n] - z[y])
    return worst

def squared(z, y):
    return (z[0] - y[0]) ** 2

def scaled(x, scale):
    y = np.empty(len(x))
    for n in range(len(x)):
        y[n] = scale[n] * x[n]
    return y

weighted = fg.Loss.from_function(margin, class_weight=np.linspace(1, 2, 10))
layer = fg.layers.Function(scaled, {"scale": np.ones(10)})
"""

NET = """
[[layers]]
type = "flatten"
[[layers]]
type = "dense"
units = 10
[[layers]]
type = "function"
function = "functions_of_mine:scaled"
parameters = { scale = [10] }
[[layers]]
type = "functions_of_mine:layer"
[[layers]]
type = "dense"
units = "classes"
"""

TRAIN = ("train", "--quiet", "--device", "cpu")


@pytest.fixture
def here(folder, monkeypatch):
    """Work in a folder with a module and a model that names its functions."""
    monkeypatch.syspath_prepend(folder)
    module(folder, "functions_of_mine", MODULE)
    (folder / "net.toml").write_text(NET, encoding="utf-8")
    yield folder
    sys.modules.pop("functions_of_mine", None)


@pytest.mark.parametrize("name", ["margin", "weighted"])
def test_a_loss_trains_the_digits_and_its_run_folder_asks_for_trust(here, fgtrain, name):
    loss = f"functions_of_mine:{name}"
    assert fgtrain(*TRAIN, "--steps", "200", "--loss", loss, "--out", "a").code == 0
    for command in (("evaluate", "a"), ("train", "--resume", "a", "--steps", "202")):
        refused = fgtrain(*command)
        assert (refused.code, refused.error.count("\n")) == (2, 0)
        assert f"loss is '{loss}', code that is not fgnumba's own" in refused.error
    judged = fgtrain("evaluate", "a", "--trust-code", loss)
    assert judged.code == 0
    assert float(judged.out.split()[1].rstrip(",")) > 0.85
    assert fgtrain("train", "--resume", "a", "--steps", "202", "--quiet", "--trust-code", loss).code == 0


def test_a_loss_of_real_targets_trains_on_a_table(here, fgtrain):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 2))
    rows = [f"{a},{b},{2 * a - b}" for a, b in x]
    (here / "t.csv").write_text("\n".join(["a,b,price", *rows]), encoding="utf-8")
    loss = "functions_of_mine:squared"
    given = ("--data", "t.csv", "--target", "price", "--loss", loss, "--steps", "300", "--out", "a")
    assert fgtrain(*TRAIN, *given).code == 0
    judged = fgtrain("evaluate", "a", "--trust-code", loss, "--data", "t.csv")
    assert judged.out.startswith("r2 0.9")


def test_labels_are_refused_by_a_loss_of_real_targets(here, fgtrain):
    refused = fgtrain(*TRAIN, "--steps", "1", "--loss", "functions_of_mine:squared", "--out", "a")
    assert (refused.code, refused.error.count("\n")) == (2, 0)
    assert "the targets of digits are classes" in refused.error


def test_layers_train_and_their_run_folder_asks_for_trust(here, fgtrain):
    assert fgtrain(*TRAIN, "--steps", "3", "--model", "net.toml", "--out", "a").code == 0
    refused = fgtrain("evaluate", "a")
    assert refused.code == 2
    assert (
        "layers[2]: function is 'functions_of_mine:scaled', code that is not fgnumba's own" in refused.error
    )
    trust = [f"--trust-code=functions_of_mine:{name}" for name in ("scaled", "layer")]
    assert fgtrain("evaluate", "a", *trust).code == 0


def test_what_is_no_loss_is_refused(here, fgtrain):
    refused = fgtrain(*TRAIN, "--steps", "1", "--loss", "functions_of_mine:layer", "--out", "a")
    assert (refused.code, refused.error.count("\n")) == (2, 0)
    assert "a Loss, or its subclass, is required" in refused.error
