"""A benchmark report as an HTML page: a sentence, bars with intervals, and tables, in one file without scripts."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fgnumba.bench.report.suite import BATCH, LEFT, Report, remarks, tables
from fgnumba.colours import DIRECTIONS, FORWARD, GREY, INFERENCE, JAX, PYTORCH, REVERSE
from fgnumba.runs import page as pages
from fgnumba.runs.page import Bar

PEERS = {"JAX": JAX, "PyTorch": PYTORCH}
NAMES = {
    "logreg": "logreg: 784-10",
    "mlp": "mlp: 784-1024-1024-10",
    "cnn": "cnn: 4 convolutions of 64 channels",
}
_FIRST = ("mlp", "cnn", "logreg")
"""Networks in the order in which the headline prefers them."""
_COLOURS = (
    FORWARD,
    REVERSE,
    GREY,
    INFERENCE,
    *PEERS.values(),
    *(style.colour for style in DIRECTIONS.values()),
)

Row = Mapping[str, Any]
Group = tuple[str, Sequence[Bar]]


def page(report: Report, title: str = "fgnumba: forward gradients against reverse mode") -> str:
    """Return a report as an HTML page.

    Parameters
    ----------
    report : dict
        The report, as :func:`fgnumba.bench.report.suite.run` returns it.
    title : str
        Title of the page. Default: "fgnumba: forward gradients against reverse mode".
    """
    body = [f"<h1>{html.escape(title)}</h1>"]
    sentence = headline(report)
    if sentence is not None:
        body.append(f'<p class="lead">{html.escape(sentence)}</p>')
    body += _remarks(report)
    for heading, about, groups, common in charts(report):
        body.append(f"<h2>{html.escape(heading)}</h2>")
        body.append(f"<p>{html.escape(about)}</p>")
        body.append(pages.bars(groups, common))
    for heading, heads, rows in tables(report):
        body.append(f"<h2>{html.escape(heading)}</h2>")
        body.append(pages.table(heads, rows, LEFT))
    return pages.document(title, body, _COLOURS)


def _remarks(report: Report) -> list[str]:
    """Return what a reader must know; where many measurements were disturbed, the list of them can be unfolded."""
    lines = remarks(report)
    loud = [line for line in lines if line.startswith("NOT QUIET")]
    parts = [f'<p class="soft">{html.escape(line)}</p>' for line in lines if line not in loud]
    if loud:
        cases = f"{len(loud)} of {len(report['ratios'])} cases"
        sentence = f"The machine was not quiet during {cases}: measure these again."
        items = "".join(f"<li>{html.escape(line)}</li>" for line in loud)
        parts.append(f'<details><summary class="warning">{sentence}</summary><ul>{items}</ul></details>')
    return parts


def headline(report: Report) -> str | None:
    """Return what was found as one sentence, or None if the case that it is about was not measured.

    Parameters
    ----------
    report : dict
        The report.
    """
    rows = {row["name"]: row for row in _single(report["ratios"]) if row["batch"] == BATCH}
    name = next((name for name in _FIRST if name in rows), None)
    if name is None:
        return None
    row = rows[name]
    ratio = row["rf_over_rb"]
    compared = f"{1 / ratio:.2f} times as fast as" if ratio < 1 else f"{ratio:.2f} times as slow as"
    return (
        f"One forward gradient of {name} takes {row['rf']:.2f} times as long as its loss alone, and reverse mode "
        f"{row['rb']:.2f} times: along one rank-1 direction, at batch size {BATCH}, the forward gradient is "
        f"{compared} reverse mode on the same kernels."
    )


def charts(report: Report) -> list[tuple[str, str, list[Group], bool]]:
    """Return the charts of a report; those without measurements are left out.

    Parameters
    ----------
    report : dict
        The report.

    Returns
    -------
    list of (str, str, list, bool)
        For each chart its heading, a sentence about it, its bars in groups, and whether the groups have one scale.
    """
    rows = report["ratios"]
    single = _single(rows)
    at_batch = [row for row in single if row["batch"] == BATCH]
    counted = [row for row in rows if row["batch"] == BATCH]
    found: list[tuple[str, str, list[Group], bool]] = [
        (
            f"Rf and Rb, one rank-1 direction, batch {BATCH}",
            "Rf is the time of a forward gradient, with the draw of its direction, divided by the time of the loss f "
            "alone: at 1 the gradient would be free. Rb is the same quotient for reverse mode. Shorter is better.",
            [(_name(row), _ratios(row)) for row in at_batch],
            True,
        ),
        (
            f"A training step, batch {BATCH}, milliseconds",
            "A whole step with its update. JAX and PyTorch take it by reverse mode. Each network has its own scale.",
            [(_name(row), _steps(row, report["peers"])) for row in at_batch],
            False,
        ),
        (
            "Peak memory of a step, megabytes",
            "Parameters, gradients and buffers. Inference is a forward pass that keeps nothing.",
            [(_name(row), _memory(row)) for row in at_batch],
            False,
        ),
        (
            f"Rf by the number of directions T, batch {BATCH}",
            "All directions of a step share one primal pass. The number in parentheses is what the products alone "
            "would take.",
            _by_count(counted),
            False,
        ),
        (
            "Rf / Rb of one rank-1 direction by batch size",
            "Below 1 the forward gradient is faster than reverse mode.",
            _by_batch(single),
            True,
        ),
    ]
    return [one for one in found if one[2]]


def _single(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["directions"] == 1 and row["direction"] == "rank1"]


def _name(row: Row) -> str:
    name = str(row["name"])
    return NAMES.get(name, name)


def _with_interval(label: str, row: Row, key: str, colour: str, more: str = "") -> Bar:
    low, high = row[f"{key}_interval"]
    return Bar(label, row[key], f"{row[key]:.2f} [{low:.2f}, {high:.2f}]{more}", colour, (low, high))


def _ratios(row: Row) -> list[Bar]:
    return [_with_interval("Rf", row, "rf", FORWARD), _with_interval("Rb", row, "rb", REVERSE)]


def _steps(row: Row, peers: Iterable[Row]) -> list[Bar]:
    times = [("forward", row["step_ms"], FORWARD), ("reverse", row["reverse_step_ms"], REVERSE)]
    times += [
        (peer["peer"], peer["reverse_step_ms"], PEERS.get(peer["peer"], GREY))
        for peer in peers
        if (peer["name"], peer["direction"]) == (row["name"], "rank1")
    ]
    return [Bar(label, value, f"{value:.3g} ms", colour) for label, value, colour in times]


def _memory(row: Row) -> list[Bar]:
    bytes_of = (
        ("inference", "inference_peak_bytes", INFERENCE),
        ("forward", "peak_bytes", FORWARD),
        ("reverse", "reverse_step_peak_bytes", REVERSE),
    )
    return [Bar(label, row[key] / 1e6, f"{row[key] / 1e6:.3g} MB", colour) for label, key, colour in bytes_of]


def _by_count(rows: Sequence[Row]) -> list[Group]:
    groups: list[Group] = []
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        if len({row["directions"] for row in mine}) < 2:
            continue
        order = list(DIRECTIONS)
        mine.sort(key=lambda row: (order.index(row["direction"]), row["directions"]))
        bars = [
            _with_interval(
                f"{row['direction']}, T = {row['directions']}",
                row,
                "rf",
                DIRECTIONS[row["direction"]].colour,
                f" ({row['rf_ideal']:.2f})",
            )
            for row in mine
        ]
        groups.append((_name(mine[0]), bars))
    return groups


def _by_batch(single: Sequence[Row]) -> list[Group]:
    groups: list[Group] = []
    for name in dict.fromkeys(row["name"] for row in single):
        mine = sorted((row for row in single if row["name"] == name), key=lambda row: row["batch"])
        bars = [_with_interval(f"batch {row['batch']:,}", row, "rf_over_rb", FORWARD) for row in mine]
        if len(bars) > 1:
            groups.append((_name(mine[0]), bars))
    return groups
