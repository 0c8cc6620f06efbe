"""Charts for pages: curves in an SVG drawing.

The drawings are made by hand: they are a few kilobytes, need no script and no font of their own, and their text and
lines have the page's colours, light or dark.
"""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 400, 210, 46, 16, 8, 36
LARGEST = 1e150
"""Numbers beyond this are left out of drawings: differences and quotients of two of them may not be finite."""
Points = Sequence[tuple[float, float]]


class Line(NamedTuple):
    """A line of a chart.

    Parameters
    ----------
    label : str
        Its name in the legend.
    points : sequence of (float, float)
        Its points.
    kind : str
        Class of its style: ``thin``, ``strong``, ``ring`` (a mark without a line) or ``square`` (likewise).
    """

    label: str
    points: Points
    kind: str


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten.

    Parameters
    ----------
    low, high : float
        The ends, finite.
    most : int
        Largest number of intervals between them. Default: 5.
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten from `low` to `high`, with 2 and 5 times them if there are few.

    Between numbers so close that fewer than two of these lie between them, multiples of a round number are returned.

    Parameters
    ----------
    low, high : float
        The ends, above 0.
    """
    decades = math.log10(high) - math.log10(low)
    factors = (1,) if decades > 2 else (1, 2, 5) if decades > 0.9 else (1, 1.5, 2, 3, 5, 7)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, max(1, round(decades / 5)))
    values = [f * 10.0**p for p in powers for f in factors]
    found = [v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
    return found if len(found) > 1 else ticks(low, high)


def drawable(lines: Sequence[Line]) -> list[Line]:
    """Return lines without the points that are too large to be drawn.

    Parameters
    ----------
    lines : sequence of Line
        The lines.
    """
    return [line._replace(points=[p for p in line.points if abs(p[1]) < LARGEST]) for line in lines]


class Scale:
    """Maps values to places on an axis, linearly or by their logarithms.

    Parameters
    ----------
    values : sequence of float
        The values that the axis shows, finite and at least one.
    start, end : float
        Places of the smallest and of the largest one.
    logarithmic : bool
        Whether to map logarithms, if all values are above 0.
    """

    def __init__(self, values: Sequence[float], start: float, end: float, logarithmic: bool) -> None:
        low, high = min(values), max(values)
        self.logarithmic = logarithmic and low > 0
        if not high > low:
            low, high = (low / 1.5, low * 1.5) if self.logarithmic else (low - 0.5, low + 0.5)
        self.low, self.high = low, high
        self._start, self._length = start, end - start

    def at(self, value: float) -> float:
        """Return the place of a value.

        Parameters
        ----------
        value : float
            The value; above 0 on a logarithmic axis.
        """
        if self.logarithmic:
            share = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return self._start + share * self._length

    @property
    def ticks(self) -> list[float]:
        """Round numbers within the axis."""
        return log_ticks(self.low, self.high) if self.logarithmic else ticks(self.low, self.high)


def svg(lines: Sequence[Line], label: str, logarithmic: bool = True, x_label: str = "step") -> str:
    """Return a chart as an SVG element, empty if there is nothing to draw.

    Its classes are styled by ``fgnumba.runs.page``, which also gives the colour of the lines.

    Parameters
    ----------
    lines : sequence of Line
        The lines.
    label : str
        What the vertical axis shows.
    logarithmic : bool
        Whether the vertical axis is logarithmic, where all values are above 0. Default: True.
    x_label : str
        What the horizontal axis shows. Default: ``"step"``.
    """
    lines = drawable(lines)
    everything = [point for line in lines for point in line.points]
    if not everything:
        return ""
    x = Scale([0.0, *(point[0] for point in everything)], LEFT, WIDTH - RIGHT, False)
    y = Scale([point[1] for point in everything], HEIGHT - BOTTOM, TOP, logarithmic)
    title = html.escape(
        f"{label} over the {x_label}: " + ", ".join(line.label for line in lines if line.points)
    )
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">']
    for value in y.ticks:
        at = y.at(value)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{at + 3.5:.1f}" text-anchor="end">{value:.4g}</text>')
    for value in ticks(x.low, x.high, 4):
        place = f'<text x="{x.at(value):.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">'
        parts.append(f"{place}{value:,.10g}</text>")
    bottom = f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">'
    parts.append(f"{bottom}{html.escape(x_label)}</text>")
    parts += [mark for line in lines for mark in _drawn(line, x, y)]
    return "".join([*parts, "</svg>"])


def _drawn(line: Line, x: Scale, y: Scale) -> list[str]:
    places = [(x.at(a), y.at(b)) for a, b in line.points]
    if line.kind == "ring":
        return [f'<circle class="ring" cx="{a:.1f}" cy="{b:.1f}" r="6"/>' for a, b in places]
    if line.kind == "square":
        return [f'<path class="square" d="M{a - 3:.1f} {b - 3:.1f}h6v6h-6z"/>' for a, b in places]
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
    drawn = [f'<path class="{line.kind}" d="M{path}"/>'] if len(places) > 1 else []
    if line.kind == "strong" or len(places) == 1:
        drawn += [f'<circle class="dot" cx="{a:.1f}" cy="{b:.1f}" r="2.2"/>' for a, b in places]
    return drawn
