"""Colours of pictures: one table, so that a method has the same colour in every picture.

Forward mode is red and reverse mode blue everywhere. Estimators of a family have related colours and differ in how
their lines are dashed. The five that ``fgtrain compare`` takes by default differ in lightness as well, so that they can
be told apart by readers who see few colours, and in print without any. Each has a contrast of at least 3 with white.
Source of that bound: Web Content Accessibility Guidelines 2.2, 1.4.11.
"""

from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32


class Style(NamedTuple):
    """How the line of a method is drawn.

    Parameters
    ----------
    colour : str
        Colour as ``#rrggbb``.
    dash : str
        Dashes as matplotlib names them: ``-``, ``--``, ``-.`` or ``:``.
    """

    colour: str
    dash: str = "-"


INK, GREY, GRID = "#22272e", "#6b7280", "#d9dde3"
UNKNOWN = Style(INK)
"""Colours of text, of what a picture only mentions, of the lines behind the curves; the style of an unknown method."""
FORWARD, REVERSE, CHECKPOINTED = "#c1440e", "#1f5fa8", "#5f8fc4"
"""Forward mode, reverse mode, and reverse mode that keeps few activations and computes the others again."""
ACTIVITY, FEEDBACK, LOCAL, DIFFERENCES = "#b8860b", "#2a8a56", "#5b2a86", "#0f7f86"
"""Families of estimators besides weight perturbation, which has the colour of forward mode."""
INFERENCE, MEAN = "#8a8f98", "#2a8a56"
"""A pass without derivatives; the mean of many estimates."""
JAX, PYTORCH = "#7c828c", "#b0b5bd"

STYLES = {
    "weight-perturbation": Style(FORWARD),
    "orthogonal": Style("#e2703a", "--"),
    "projected": Style("#8f2d04", "-."),
    "control-variate": Style("#a8674a", ":"),
    "subspace-gauss-newton": Style("#c2185b", "-."),
    "activity": Style("#8a6d1a", "--"),
    "activity-layerwise": Style(ACTIVITY, "-."),
    "activity-feedback": Style("#14532d", "--"),
    "activity-layerwise-feedback": Style("#14532d", ":"),
    "feedback": Style(FEEDBACK),
    "fdfa": Style("#7a9a2e", "-."),
    "local": Style("#b5548f", "--"),
    "local-feedback": Style(LOCAL, "--"),
    "spsa": Style(DIFFERENCES),
    "coordinates": Style(DIFFERENCES, "--"),
    "hybrid": Style(DIFFERENCES, ":"),
    "rtrl": Style("#4a5d23", "-."),
    "block-feedback": Style("#7a3f8f", "-."),
    "relayed-feedback": Style("#2f6f73", "-."),
    "local-noise-feedback": Style(LOCAL, ":"),
    "reverse-mode": Style(REVERSE),
}
"""Estimators by the names that configurations use, and reverse mode."""

DIRECTIONS = {
    "rank1": Style(FORWARD),
    "orthogonal": Style("#e2703a", "--"),
    "rademacher": Style(ACTIVITY, "-."),
    "gaussian": Style(FEEDBACK, ":"),
}
"""Distributions of directions where several are compared; rank-1 signs have the colour of forward mode."""

_SPARE = ("#6b4226", "#374151", "#9d174d", "#4d7c0f", "#7c3aed")
_DASHES = ("-", "--", "-.", ":")
_ON_DARK = 0.45
"""Share of white that a colour is mixed with to be read on a dark page."""


def style(name: str | None) -> Style:
    """Return how a method is drawn; a name that is not in `STYLES` always gets the same one of the spare styles.

    Parameters
    ----------
    name : str or None
        Name of an estimator, or ``reverse-mode``. None: it is not known which, and the line has the colour of text.
    """
    if name is None:
        return UNKNOWN
    found = STYLES.get(name)
    if found is not None:
        return found
    # Python's own hash of a text differs from process to process.
    number = crc32(name.encode("utf-8", "surrogateescape"))
    return Style(_SPARE[number % len(_SPARE)], _DASHES[number // len(_SPARE) % len(_DASHES)])


def styles(names: Iterable[str]) -> dict[str, Style]:
    """Return how each of several methods is drawn, no two alike for as long as there are spare styles.

    Parameters
    ----------
    names : iterable of str
        Names of estimators, or ``reverse-mode``. Where two names without a place in `STYLES` would look the same, the
        later one gets the next spare style.
    """
    chosen: dict[str, Style] = {}
    spare = [Style(colour, dash) for dash in _DASHES for colour in _SPARE]
    for name in names:
        one = style(name)
        if name not in STYLES and one in chosen.values():
            one = next((other for other in spare if other not in chosen.values()), one)
        chosen[name] = one
    return chosen


def on_dark(colour: str) -> str:
    """Return a lighter colour of the same hue, for pages with a dark background.

    Parameters
    ----------
    colour : str
        Colour as ``#rrggbb``.
    """
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + _ON_DARK * (255 - part)):02x}" for part in parts)
