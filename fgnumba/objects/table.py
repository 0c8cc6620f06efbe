"""Tables of text for people: with aligned columns for a terminal, and as HTML for a notebook."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import Any

Cells = Sequence[str]

MOST_ROWS = 40
"""The most rows of a table in a notebook; of a longer one, the rows in the middle are left out."""

_STYLE = "padding: 0.15em 0.8em; text-align: {}; color: inherit; background: transparent"


def as_text(heads: Cells, rows: Sequence[Cells], numbers: int) -> str:
    """Return a table as lines of text.

    Parameters
    ----------
    heads : sequence of str
        The heads of the columns.
    rows : sequence of sequence of str
        The cells, row by row.
    numbers : int
        How many of the last columns hold numbers, which end at the column's right.

    Returns
    -------
    str
        A line for the heads and one for each row, without a final line break.
    """
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    first = len(heads) - numbers
    return "\n".join(
        "  ".join(
            f"{cell:>{width}}" if column >= first else f"{cell:{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def as_html(title: str, heads: Cells, rows: Sequence[Cells], numbers: int) -> str:
    """Return a table as HTML, for ``_repr_html_``: every text is escaped, and the colours are those of the page.

    Parameters
    ----------
    title : str
        The line above the table.
    heads : sequence of str
        The heads of the columns; none are written if all are empty.
    rows : sequence of sequence of str
        The cells, row by row. Of more than 40 rows, the first 20 and the last 20 are written.
    numbers : int
        How many of the last columns hold numbers, which end at the column's right.

    Returns
    -------
    str
        A ``<table>`` without scripts, style sheets or links.
    """
    if len(rows) > MOST_ROWS:
        gap = [("…", *("" for _ in heads[1:]))]
        rows = [*rows[: MOST_ROWS // 2], *gap, *rows[-MOST_ROWS // 2 :]]
    first = len(heads) - numbers

    def line(cells: Cells, tag: str) -> str:
        written = (
            f'<{tag} style="{_STYLE.format("right" if column >= first else "left")}">{escape(cell)}</{tag}>'
            for column, cell in enumerate(cells)
        )
        return f"<tr>{''.join(written)}</tr>"

    above = f"<thead>{line(heads, 'th')}</thead>" if any(heads) else ""
    below = "".join(line(row, "td") for row in rows)
    caption = f'<caption style="text-align: left; color: inherit">{escape(title)}</caption>'
    return f'<table style="border-collapse: collapse">{caption}{above}<tbody>{below}</tbody></table>'


def of_records(records: Sequence[Any], title: str) -> str:
    """Return dataclasses of numbers as an HTML table, without the columns in which none has a number.

    Parameters
    ----------
    records : sequence of dataclass
        The rows. A field that is a mapping gives a column for each of its keys.
    title : str
        The line above the table.
    """
    flat = [_numbers_of(record) for record in records]
    names = list(dict.fromkeys(name for each in flat for name in each))
    rows = [[f"{each[name]:.5g}" if name in each else "" for name in names] for each in flat]
    return as_html(title, [name.replace("_", " ") for name in names], rows, len(names))


def _numbers_of(record: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        found |= value if isinstance(value, Mapping) else {field.name: value}
    return {name: value for name, value in found.items() if not math.isnan(value)}
