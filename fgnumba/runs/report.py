"""A run as an HTML page: what came of it, its curves, its settings, its model, its records, and where it took place."""

import dataclasses
import html
import math
from pathlib import Path
from typing import Any, NamedTuple

from fgnumba.colours import style
from fgnumba.errors import printable
from fgnumba.runs import charts, page
from fgnumba.runs.charts import Line
from fgnumba.runs.figures import title_of
from fgnumba.runs.listing import Shown, headline, settings
from fgnumba.runs.loss_log import read_losses
from fgnumba.runs.surroundings import NAMES
from fgnumba.storage.safetensors import read_header
from fgnumba.training import curves
from fgnumba.training.checkpoints import MODEL
from fgnumba.training.records import Record

MOST_ROWS = 60
"""Largest number of records in the table; of more, some are left out evenly."""


class Chart(NamedTuple):
    """A chart of a run.

    Parameters
    ----------
    label : str
        What the vertical axis shows.
    lines : list of Line
        The lines.
    logarithmic : bool
        Whether the vertical axis is logarithmic.
    """

    label: str
    lines: list[Line]
    logarithmic: bool = True


def report(folder: Path, run: Shown) -> str:
    """Return the page of a run.

    Parameters
    ----------
    folder : Path
        The run folder.
    run : Shown
        The run, as ``fgnumba.runs.listing.read`` returned it.
    """
    one = run.summary
    losses = read_losses(folder)
    body = [
        f"<h1>{html.escape(one.name)}</h1>",
        f'<p class="lead">{html.escape(headline(one))}</p>',
        f'<p class="soft">{html.escape(title_of(run.config))}; {html.escape(one.date)}</p>',
        *_curves(run.records, losses),
        "<h2>Settings</h2>",
        page.table(("", " "), settings(run.config), ("", " "), wide=False),
        "<h2>Model</h2>",
        *_model(folder, run),
        *_table(run.records),
        "<h2>Versions and processor</h2>",
        page.table(("", " "), _surroundings(run.facts), ("", " "), wide=False),
    ]
    return page.document(f"{one.name}: a run of fgnumba", body, run=style(run.config.estimator).colour)


def charts_of(records: list[Record], losses: curves.Losses | None) -> list[Chart]:
    """Return the charts of a run. Losses and errors have a logarithmic axis, the metric of a regression a linear one.

    Parameters
    ----------
    records : list of Record
        The records of the run.
    losses : sequence of float or None
        The loss of each step, if they are known.
    """
    step = curves.best(records)

    def judged(validation: curves.Points, test: curves.Points) -> list[Line]:
        ring = [point for point in validation if point[0] == step]
        best = f"best, step {step:,}" if ring else ""
        ends = f"test, {test[-1][1]:.4g}" if test else ""
        return [
            Line("validation", validation, "strong"),
            Line(best, ring, "ring"),
            Line(ends, test, "square"),
        ]

    training = Line("training", curves.training_loss(records, losses), "thin")
    parts = [curves.points(records, f"{part}_loss") for part in ("validation", "test")]
    found = [Chart(curves.loss_label(records), [training, *judged(*parts)])]
    measured = curves.measure(records)
    if measured is not None:
        lines = judged(measured.validation, measured.test)
        found.append(Chart(measured.label, lines, measured.name == "error"))
    return found


def _curves(records: list[Record], losses: curves.Losses | None) -> list[str]:
    parts = []
    for label, lines, logarithmic in charts_of(records, losses):
        drawn = charts.svg(lines, label, logarithmic)
        if drawn:
            key = "".join(_key(line) for line in lines if line.points)
            caption = f"<figcaption>{html.escape(label)}</figcaption>"
            parts.append(f'<figure>{caption}{drawn}<ul class="key">{key}</ul></figure>')
    return ['<div class="charts">', *parts, "</div>"] if parts else []


def _key(line: Line) -> str:
    marks = {
        "thin": '<path class="thin" d="M1 6H25"/>',
        "strong": '<path class="strong" d="M1 6H25"/><circle class="dot" cx="13" cy="6" r="3"/>',
        "ring": '<circle class="ring" cx="13" cy="6" r="5"/>',
        "square": '<path class="square" d="M10 3h6v6h-6z"/>',
    }
    drawn = f'<svg class="chart" viewBox="0 0 26 12" aria-hidden="true">{marks[line.kind]}</svg>'
    return f"<li>{drawn}{html.escape(line.label)}</li>"


def _model(folder: Path, run: Shown) -> list[str]:
    """Return the layers, and the number of parameters of a run that has ended."""
    rows = []
    for number, layer in enumerate(run.config.layers or ()):
        rest = ", ".join(
            f"{name}={value}"
            for name, value in layer.items()
            if name not in ("type", "name") and value is not None
        )
        rows.append((str(layer.get("name", number)), str(layer.get("type", "")), printable(rest)))
    shape = run.facts.get("input_shape")
    about = f"input {'×'.join(map(str, shape))}" if isinstance(shape, list) else "input not recorded"
    try:
        tensors = read_header(folder / MODEL).tensors.values()
        about += f", {sum(math.prod(tensor.shape) for tensor in tensors):,} parameters"
    except (OSError, ValueError):
        about += "; the number of parameters is known when the run has ended"
    heads = ("name", "layer", "settings")
    return [f"<p>{html.escape(about)}</p>", page.table(heads, rows, heads, wide=False)] if rows else []


def _table(records: list[Record]) -> list[str]:
    """Return the table of records, without the quantities that no record has."""
    if not records:
        return []
    fields = [field.name for field in dataclasses.fields(Record) if field.name != "metrics"]
    rows = [{**{name: getattr(record, name) for name in fields}, **record.metrics} for record in records]
    order = ("step", "epoch", "loss", "validation_loss", "validation_accuracy")
    names = [
        name
        for name in dict.fromkeys((*order, *(name for row in rows for name in row)))
        if any(math.isfinite(row.get(name, math.nan)) for row in rows)
    ]
    kept = sorted({round(i * (len(rows) - 1) / max(1, MOST_ROWS - 1)) for i in range(MOST_ROWS)})
    kept = list(range(len(rows))) if len(rows) <= MOST_ROWS else kept
    left = f" ({len(kept)} of {len(rows):,})" if len(kept) < len(rows) else ""
    cells = ([_cell(name, rows[i].get(name, math.nan)) for name in names] for i in kept)
    return [f"<h2>Records{left}</h2>", page.table([name.replace("_", " ") for name in names], cells)]


def _cell(name: str, value: float) -> str:
    if not math.isfinite(value):
        return ""
    return f"{value:,}" if name == "step" else f"{value:.4g}"


def _surroundings(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return versions and processor; runs of earlier versions did not record all of them."""
    return [
        ("fgnumba" if name == "version" else name, printable(str(facts.get(name, "not recorded"))))
        for name in NAMES
    ]
