"""Colours: one table for all pictures, which readers of few colours and of none can use."""

import itertools
import re

import numpy as np
import pytest

from fgnumba import colours
from fgnumba.cli.compare import DEFAULT
from fgnumba.estimators import RECIPES
from tests.places import ROOT

# A reader with the dichromacy of this name sees linear RGB times this matrix. Source: G. M. Machado, M. M. Oliveira,
# L. A. F. Fernandes, IEEE TVCG 15 (2009), severity 1.
SEEN = {
    "all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
APART = 10.0
"""CIE76 difference above which colours of lines are told apart at a glance; 2.3 is the smallest that is noticed."""
NEUTRAL = ("fgnumba/runs/page.py",)
"""Modules that have colours of their own: those of text and paper on a light and on a dark page."""


def linear(colour):
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Return CIE L*a*b* of linear RGB, with the white point D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_every_estimator_has_a_style_of_its_own():
    assert colours.STYLES.keys() == {*RECIPES, "reverse-mode"}
    assert len(set(colours.STYLES.values())) == len(colours.STYLES)


def test_forward_and_reverse_mode_keep_their_colours():
    assert colours.style("weight-perturbation").colour == colours.FORWARD
    assert colours.style("reverse-mode").colour == colours.REVERSE
    assert colours.DIRECTIONS["rank1"].colour == colours.FORWARD


@pytest.mark.parametrize("seen", SEEN)
def test_what_is_compared_by_default_is_told_apart_by_everybody(seen):
    names = DEFAULT.split(",")
    for one, two in itertools.combinations(names, 2):
        a, b = (lab(np.array(SEEN[seen]) @ linear(colours.style(name).colour)) for name in (one, two))
        assert np.linalg.norm(a - b) > APART, (one, two)


def test_what_is_compared_by_default_is_told_apart_in_grey():
    lightness = sorted(lab(linear(colours.style(name).colour))[0] for name in DEFAULT.split(","))
    # Lines differ in their dashes, too.
    assert np.diff(lightness).min() > 4
    assert len({colours.style(name) for name in DEFAULT.split(",")}) == len(lightness)


@pytest.mark.parametrize("name", colours.STYLES)
def test_every_line_is_seen_on_white_and_on_dark(name):
    colour = colours.style(name).colour

    def luminance(colour):
        return float(linear(colour) @ np.array([0.2126, 0.7152, 0.0722]))

    paper, night = luminance("#ffffff"), luminance("#14181d")
    assert (paper + 0.05) / (luminance(colour) + 0.05) >= 3
    assert (luminance(colours.on_dark(colour)) + 0.05) / (night + 0.05) >= 3


def test_unknown_methods_keep_a_style_and_differ_where_they_meet():
    assert colours.style("mine") == colours.style("mine")
    assert colours.style(None) == colours.UNKNOWN
    many = colours.styles([f"mine-{i}" for i in range(15)] + ["feedback"])
    assert len(set(many.values())) == 16
    assert many["feedback"] == colours.style("feedback")


def test_no_other_module_has_a_colour_of_its_own():
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("fgnumba", "bench", "cli", "kernels")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"#[0-9a-fA-F]{6}\b", path.read_text(encoding="utf-8"))
    }
    assert {name for name in found if not name.startswith(("fgnumba/bench/", "fgnumba/cli/"))} == {
        "fgnumba/colours.py",
        *NEUTRAL,
    }
