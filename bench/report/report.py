"""A benchmark report as an HTML page: tables and interactive figures in one file, which needs no internet connection.

The figures are drawn by Plotly, whose script is part of the page.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from fgnumba.bench.report.suite import BATCH, LEFT, Report, remarks, tables
from fgnumba.errors import ConfigError

FORWARD, REVERSE, GREY = "#c1440e", "#1f5fa8", "#8a8f98"
DIRECTION_COLOURS = {"rank1": FORWARD, "rademacher": "#b08900", "gaussian": "#5a7d2b"}
PEER_COLOURS = {"JAX": "#8a8f98", "PyTorch": "#b9bec6"}

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 0 auto; padding: 1rem; max-width: 72rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd; }
th.word, td.word { text-align: left; }
thead th { position: sticky; top: 0; background: #fff; }
.warning { color: #a00; font-weight: 600; }
"""


def page(report: Report, title: str = "fgnumba: forward gradients against reverse mode") -> str:
    """Return a report as an HTML page.

    Parameters
    ----------
    report : dict
        The report, as :func:`fgnumba.bench.report.suite.run` returns it.
    title : str
        Title of the page. Default: "fgnumba: forward gradients against reverse mode".

    Raises
    ------
    ConfigError
        Plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ConfigError("an HTML report needs Plotly: pip install 'fgnumba[report]'") from None
    body = [f"<h1>{html.escape(title)}</h1>"]
    if report["machine"]:
        for line in remarks(report):
            warning = ' class="warning"' if line.startswith("NOT QUIET") else ""
            body.append(f"<p{warning}>{html.escape(line)}</p>")
    for heading, figure in figures(report):
        body.append(f"<h2>{html.escape(heading)}</h2>")
        body.append(
            figure.to_html(
                full_html=False,
                include_plotlyjs=False,
                default_width="100%",
                config={"responsive": True, "displayModeBar": False},
            )
        )
    for heading, heads, rows in tables(report):
        body.append(f"<h2>{html.escape(heading)}</h2>")
        body.append(_table(heads, rows))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f"<script>{get_plotlyjs()}</script>",
            "</head><body>",
            *body,
            "</body></html>\n",
        ]
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        kinds = [' class="word"' if head in LEFT else "" for head in heads]
        pairs = zip(cells, kinds, strict=True)
        return "<tr>" + "".join(f"<{tag}{kind}>{html.escape(cell)}</{tag}>" for cell, kind in pairs) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table><thead>{line(heads, "th")}</thead><tbody>{body}</tbody></table></div>'


def figures(report: Report) -> list[tuple[str, Any]]:
    """Return the figures of a report, each with its heading; those without measurements are left out.

    Parameters
    ----------
    report : dict
        The report, as :func:`fgnumba.bench.report.suite.run` returns it.
    """
    rows = report["ratios"]
    drawn = []
    single = [row for row in rows if row["directions"] == 1 and row["direction"] == "rank1"]
    at_batch = [row for row in single if row["batch"] == BATCH]
    if at_batch:
        drawn.append((f"A training step, batch {BATCH}", _steps(at_batch, report["peers"])))
        drawn.append(("Peak memory of a step", _memory(at_batch)))
    for network in dict.fromkeys(row["name"] for row in rows):
        by_count = [row for row in rows if row["name"] == network and row["batch"] == BATCH]
        if len({row["directions"] for row in by_count}) > 1:
            drawn.append((f"{network}: Rf by the number of directions, batch {BATCH}", _by_count(by_count)))
    if len({row["batch"] for row in single}) > 1:
        drawn.append(("Rf / Rb of a rank-1 direction by batch size", _by_batch(single)))
    return drawn


def _figure(**layout: Any) -> Any:
    import plotly.graph_objects as go

    return go.Figure(
        layout={
            "template": "simple_white",
            "height": 340,
            "margin": {"l": 50, "r": 10, "t": 10, "b": 40},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
            **layout,
        }
    )


def _steps(rows: Sequence[Mapping[str, Any]], peers: Sequence[Mapping[str, Any]]) -> Any:
    figure = _figure(barmode="group", yaxis={"title": "milliseconds", "type": "log"})
    names = [row["name"] for row in rows]
    for label, key, colour in (
        ("forward gradient", "step_ms", FORWARD),
        ("reverse mode, same kernels", "reverse_step_ms", REVERSE),
    ):
        figure.add_bar(x=names, y=[row[key] for row in rows], name=label, marker_color=colour)
    for peer, colour in PEER_COLOURS.items():
        by_name = {row["name"]: row for row in peers if row["peer"] == peer and row["direction"] == "rank1"}
        if by_name:
            times = [by_name[name]["reverse_step_ms"] if name in by_name else None for name in names]
            figure.add_bar(x=names, y=times, name=f"{peer}, reverse mode", marker_color=colour)
    return figure


def _memory(rows: Sequence[Mapping[str, Any]]) -> Any:
    figure = _figure(barmode="group", yaxis={"title": "MB", "type": "log"})
    for label, key, colour in (
        ("inference", "inference_peak_bytes", GREY),
        ("forward gradient", "peak_bytes", FORWARD),
        ("reverse mode", "reverse_step_peak_bytes", REVERSE),
    ):
        megabytes = [row[key] / 1e6 for row in rows]
        figure.add_bar(x=[row["name"] for row in rows], y=megabytes, name=label, marker_color=colour)
    return figure


def _errors(row_values: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [row[f"{name}_interval"][1] - row[name] for row in row_values],
        "arrayminus": [row[name] - row[f"{name}_interval"][0] for row in row_values],
    }


def _by_count(rows: Sequence[Mapping[str, Any]]) -> Any:
    figure = _figure(xaxis={"title": "directions", "type": "log"}, yaxis={"title": "Rf", "type": "log"})
    for direction, colour in DIRECTION_COLOURS.items():
        selected = sorted((r for r in rows if r["direction"] == direction), key=lambda row: row["directions"])
        counts = [row["directions"] for row in selected]
        values = [row["rf"] for row in selected]
        figure.add_scatter(
            x=counts, y=values, error_y=_errors(selected, "rf"), name=direction, line_color=colour
        )
        ideal = [row["rf_ideal"] for row in selected]
        dotted = {"color": colour, "dash": "dot"}
        figure.add_scatter(x=counts, y=ideal, name=f"{direction}, by products", mode="lines", line=dotted)
    return figure


def _by_batch(rows: Sequence[Mapping[str, Any]]) -> Any:
    figure = _figure(
        xaxis={"title": "batch", "type": "log"}, yaxis={"title": "Rf / Rb", "rangemode": "tozero"}
    )
    for name in dict.fromkeys(row["name"] for row in rows):
        selected = sorted((row for row in rows if row["name"] == name), key=lambda row: row["batch"])
        figure.add_scatter(
            x=[row["batch"] for row in selected],
            y=[row["rf_over_rb"] for row in selected],
            error_y=_errors(selected, "rf_over_rb"),
            name=name,
        )
    return figure
