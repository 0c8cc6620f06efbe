"""HTML pages of results: one file each, without scripts, readable on a phone and in the dark, without a network."""

import html
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from fgnumba.colours import GREY, on_dark

_STYLE = """
:root { color-scheme: light dark; --ink: #22272e; --page: #fff; --soft: #5b6570; --line: #d9dde3; --warn: #a40e26; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  margin: 0 auto; padding: 1rem; max-width: 60rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { max-width: 45rem; }
.lead { font-size: 1.15rem; text-wrap: pretty; }
.soft { color: var(--soft); }
.warning { color: var(--warn); font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
.wide td { white-space: nowrap; }
th { vertical-align: bottom; }
details { max-width: 45rem; }
th, td { padding: .25rem .5rem; text-align: right; border-bottom: 1px solid var(--line); }
td { vertical-align: top; }
th.word, td.word { text-align: left; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
.charts figure { flex: 1 1 20rem; max-width: 34rem; margin: 0; }
figcaption { font-weight: 600; font-size: .9rem; }
.chart { width: 100%; height: auto; display: block; overflow: visible; }
.chart text { font-size: 11px; fill: var(--soft); }
.chart path { fill: none; stroke-linejoin: round; }
.chart .grid { stroke: var(--line); stroke-width: .7; }
.chart .thin { stroke: var(--run); stroke-width: 1.1; opacity: .75; }
.chart .strong { stroke: var(--run); stroke-width: 2; }
.chart .dot { fill: var(--run); }
.chart .ring { fill: none; stroke: var(--ink); stroke-width: 1.6; }
.chart .square { fill: var(--page); stroke: var(--ink); stroke-width: 1.6; }
.key { list-style: none; padding: 0; margin: .3rem 0; font-size: .85rem;
  display: flex; flex-wrap: wrap; gap: .1rem 1rem; }
.key .chart { display: inline-block; width: 26px; height: 12px; vertical-align: middle; margin-right: .3rem; }
.bars { display: grid; grid-template-columns: max-content minmax(0, 1fr) max-content; gap: .3rem .7rem;
  align-items: center; font-size: .9rem; max-width: 45rem; }
.bars h3 { grid-column: 1 / -1; font-size: .95rem; margin: .7rem 0 0; }
.bars .room { position: relative; height: 1rem; }
.bars .bar { position: absolute; inset: 0 auto 0 0; border-radius: 1px; }
.bars .whisker { position: absolute; top: 50%; height: 0; border-top: 2px solid var(--ink); min-width: 2px; }
.bars .whisker::before, .bars .whisker::after { content: ""; position: absolute; top: -5px; height: 8px;
  border-left: 2px solid var(--ink); }
.bars .whisker::after { right: 0; }
.bars .value { font-variant-numeric: tabular-nums; white-space: nowrap; }
@media (max-width: 30rem) {
  .bars { grid-template-columns: minmax(0, 1fr) max-content; gap: 0 .5rem; }
  .bars .name { grid-column: 1 / -1; }
  .bars .room, .bars .value { margin-bottom: .4rem; }
  .bars .value { font-size: .8rem; }
}
@media print { .bars .bar { print-color-adjust: exact; } }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --page: #14181d; --soft: #a3acb8; --line: #343b44; --warn: #ff8a8a; }
DARK}
"""


class Bar(NamedTuple):
    """A bar of a chart.

    Parameters
    ----------
    label : str
        What it shows.
    value : float
        Its length, 0 or above.
    text : str
        The value as text.
    colour : str
        Its colour as ``#rrggbb``.
    interval : tuple of float, optional
        Lower and upper end of the value's interval. None (the default): there is none.
    """

    label: str
    value: float
    text: str
    colour: str
    interval: tuple[float, float] | None = None


def document(title: str, body: Iterable[str], colours: Collection[str] = (), run: str = GREY) -> str:
    """Return a page.

    Parameters
    ----------
    title : str
        Title of the page.
    body : iterable of str
        Its elements, as HTML.
    colours : collection of str
        Colours of the bars, as ``#rrggbb``. Each gets a lighter one in the dark. Default: none.
    run : str
        Colour of the lines of charts. Default: grey.
    """
    shades = list(dict.fromkeys(colours))
    light = "".join(f".{shade(c)} {{ background: {c}; }}\n" for c in shades) + f":root {{ --run: {run}; }}\n"
    dark = "".join(f"  .{shade(c)} {{ background: {on_dark(c)}; }}\n" for c in shades)
    style = light + _STYLE.replace("DARK", f"{dark}  :root {{ --run: {on_dark(run)}; }}\n")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{style}</style></head><body>",
            *body,
            "</body></html>\n",
        ]
    )


def shade(colour: str) -> str:
    """Return the name of the class of elements that are filled with a colour.

    Parameters
    ----------
    colour : str
        Colour as ``#rrggbb``.
    """
    return f"c{colour[1:]}"


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[str] = (), wide: bool = True
) -> str:
    """Return a table.

    Parameters
    ----------
    heads : sequence of str
        Heads of the columns.
    rows : iterable of sequence of str
        The cells.
    words : collection of str
        Heads of the columns that hold words, which are aligned to the left. Default: none.
    wide : bool
        Whether cells stay on one line, so that the table may have to be scrolled on a phone. Default: True.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="word"' if head in words else "" for head in heads]
        pairs = zip(cells, kinds, strict=True)
        return "<tr>" + "".join(f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for cell, kind in pairs) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    head = f"<thead>{line(heads, 'th')}</thead>" if any(heads) else ""
    content = f"<table>{head}<tbody>{body}</tbody></table>"
    return f'<div class="wide">{content}</div>' if wide else content


def bars(groups: Iterable[tuple[str, Sequence[Bar]]], common: bool = False) -> str:
    """Return bars from 0, each with its value beside it and its interval as a line with two ends.

    Parameters
    ----------
    groups : iterable of (str, sequence of Bar)
        Headings, and the bars below each.
    common : bool
        Whether all groups have one scale. Default: False, the longest bar of each group has the full width.
    """
    groups = [(heading, rows) for heading, rows in groups if rows]
    reach = [max(max((bar.value, *(bar.interval or ()))) for bar in rows) for _, rows in groups]
    parts = ['<div class="bars">']
    for (heading, rows), own in zip(groups, reach, strict=True):
        longest = (max(reach) if common else own) or 1.0
        parts.append(f"<h3>{html.escape(heading)}</h3>")
        parts += [_bar(bar, 100 / longest) for bar in rows]
    return "".join([*parts, "</div>"])


def _bar(bar: Bar, scale: float) -> str:
    drawn = f'<span class="bar {shade(bar.colour)}" style="width:{bar.value * scale:.2f}%"></span>'
    if bar.interval is not None:
        low, high = bar.interval
        drawn += (
            f'<span class="whisker" style="left:{low * scale:.2f}%;width:{(high - low) * scale:.2f}%"></span>'
        )
    label, text = html.escape(bar.label), html.escape(bar.text)
    return (
        f'<span class="name">{label}</span><span class="room">{drawn}</span><span class="value">{text}</span>'
    )
