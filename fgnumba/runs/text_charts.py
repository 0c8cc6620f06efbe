"""Charts for terminals: curves of dots, with axes, of characters alone."""

from collections.abc import Sequence
from typing import NamedTuple

from fgnumba.runs.charts import Line, Scale, drawable

HEIGHT, MARGIN = 10, 10
"""Lines of the plot, and columns of the numbers at its left."""
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character by the row and the column of its dots."""


class Characters(NamedTuple):
    """The characters that a chart is made of.

    Parameters
    ----------
    marks : dict of str to str
        The mark of each kind of line.
    axes : tuple of str
        Vertical axis, a tick on it, its corner, and the horizontal axis.
    braille : bool
        Whether a thin line consists of braille dots, eight to a character.
    """

    marks: dict[str, str]
    axes: tuple[str, str, str, str]
    braille: bool


UNICODE = Characters({"thin": "⠒", "strong": "•", "ring": "◯", "square": "■"}, ("│", "┤", "└", "─"), True)
ASCII = Characters({"thin": ".", "strong": "o", "ring": "@", "square": "#"}, ("|", "|", "+", "-"), False)


def text_chart(
    lines: Sequence[Line], label: str, width: int, characters: Characters = UNICODE, logarithmic: bool = True
) -> list[str]:
    """Return a chart as lines of text, none if there is nothing to draw.

    Parameters
    ----------
    lines : sequence of Line
        The lines; what comes later is drawn over what comes earlier.
    label : str
        What the vertical axis shows.
    width : int
        Largest number of columns, at least 40.
    characters : Characters
        What to draw with. Default: Unicode's braille and boxes.
    logarithmic : bool
        Whether the vertical axis is logarithmic, where all values are above 0. Default: True.
    """
    lines = [line for line in drawable(lines) if line.points]
    everything = [point for line in lines for point in line.points]
    if not everything:
        return []
    columns = width - MARGIN - 1
    x = Scale([0.0, *(point[0] for point in everything)], 0, columns - 1, False)
    y = Scale([point[1] for point in everything], HEIGHT - 1, 0, logarithmic)
    grid = [[" "] * columns for _ in range(HEIGHT)]
    for line in lines:
        if line.kind == "thin" and characters.braille:
            _draw_dots(grid, line, x, y)
            continue
        for step, value in line.points:
            grid[round(y.at(value))][round(x.at(step))] = characters.marks[line.kind]
    return [*_key(lines, label, width, characters), *_framed(grid, x, y, characters)]


def _key(lines: Sequence[Line], label: str, width: int, characters: Characters) -> list[str]:
    """Return what the marks mean, on as many rows as the width asks for."""
    rows = [f"{label}:"]
    for line in lines:
        entry = f"   {characters.marks[line.kind]} {line.label}"
        if len(rows[-1]) + len(entry) > width:
            rows.append(" " * (len(label) + 1))
        rows[-1] += entry
    return rows


def _draw_dots(grid: list[list[str]], line: Line, x: Scale, y: Scale) -> None:
    """Draw a line between its points with braille dots, two columns and four rows to a character."""
    columns, rows = len(grid[0]), len(grid)
    places = [
        (2 * x.at(step) * columns / max(1, columns - 1), 4 * y.at(value) * rows / max(1, rows - 1))
        for step, value in line.points
    ]
    dots = set()
    for (x0, y0), (x1, y1) in zip(places, places[1:] or places, strict=False):
        count = max(1, round(max(abs(x1 - x0), abs(y1 - y0))))
        dots |= {(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(count + 1)}
    bits: dict[tuple[int, int], int] = {}
    for across, down in dots:
        column, row = min(2 * columns - 1, int(across)), min(4 * rows - 1, int(down))
        place = (row // 4, column // 2)
        bits[place] = bits.get(place, 0) | _DOTS[row % 4][column % 2]
    for (row, column), value in bits.items():
        grid[row][column] = chr(0x2800 + value)


def _framed(grid: list[list[str]], x: Scale, y: Scale, characters: Characters) -> list[str]:
    """Return the rows of a chart with the numbers at its axes."""
    axis, tick, corner, bottom = characters.axes
    marked = {round(y.at(value)): f"{value:.4g}" for value in y.ticks}
    rows = [
        f"{marked.get(number, ''):>{MARGIN}}{tick if number in marked else axis}{''.join(row)}".rstrip()
        for number, row in enumerate(grid)
    ]
    columns = len(grid[0])
    numbers = [" "] * (columns + MARGIN + 1)
    for value in x.ticks:
        text = f"{value:,.10g}"
        start = min(columns + MARGIN + 1 - len(text), MARGIN + 1 + round(x.at(value)) - len(text) // 2)
        free = numbers[max(0, start - 1) : start + len(text)]
        if all(character == " " for character in free):
            numbers[start : start + len(text)] = text
    return [*rows, f"{'':{MARGIN}}{corner}{bottom * columns}", "".join(numbers).rstrip()]
