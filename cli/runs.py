"""``fgtrain runs``: a table of the runs in a folder."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fgnumba.cli.message import say, show
from fgnumba.cli.options import RUN, examples
from fgnumba.cli.screen import columns

if TYPE_CHECKING:
    from fgnumba.runs.listing import Summary

FIRST_TO_GO = ("date", "model", "data", "seconds", "loss")
"""Columns that a narrow terminal leaves out, in this order; a run's name usually says its data and its model."""


@click.command(
    epilog=examples(
        "fgtrain runs",
        "fgtrain runs sweeps --sort accuracy",
        "fgtrain runs --json",
    )
)
@click.argument("folder", type=RUN, metavar="[FOLDER]", default="runs")
@click.option(
    "--sort",
    metavar="NAME",
    default="date",
    help="What to sort by: date, name, loss, accuracy (the best first), seconds or steps.  [default: date]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all runs.")
def runs(folder: Path, sort: str, as_json: bool) -> None:
    """List the runs in FOLDER, by default `runs`.

    For each run the table has its name, model, data and estimator, its steps so far, loss and accuracy on the test data
    (or on the validation data, while the run has not ended), the time that it took, how it ended, and when. A terminal
    that is too narrow for all columns gets those that matter most.

    A folder whose run cannot be read is reported on one line, and the others are listed all the same.
    """
    from fgnumba.errors import printable
    from fgnumba.runs import listing

    found, damaged = listing.runs(folder, sort)
    if as_json:
        show(
            json.dumps(
                {
                    "runs": [values(one) for one in found],
                    "damaged": [{"name": one.name, "problem": one.problem} for one in damaged],
                },
                allow_nan=False,
            )
        )
        return
    if found:
        show(_table(found, columns()))
    elif not damaged:
        say(printable(f"{folder}: no run is in this folder; `fgtrain train` makes runs/DATA-MODEL-1"))
    for one in damaged:
        say(printable(f"{one.name}: {one.problem}"))


def values(one: "Summary") -> dict[str, object]:
    """Return a run as JSON values; a number that is not known is null.

    Parameters
    ----------
    one : Summary
        The run.
    """
    found = {**vars(one), "metrics": {name: _known(value) for name, value in one.metrics.items()}}
    return {name: _known(value) for name, value in found.items()}


def _known(value: object) -> object:
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def _table(found: "Sequence[Summary]", width: int | None) -> str:
    """Return the table, without columns that `width` has no room for; None: there is room."""
    cells: dict[str, Callable[[Summary], str]] = {
        "name": lambda one: one.name,
        "model": lambda one: one.model,
        "data": lambda one: one.data,
        "estimator": lambda one: one.estimator,
        "steps": lambda one: f"{one.steps:,}",
        "loss": lambda one: "" if one.loss != one.loss else f"{one.loss:.4g}",
        "accuracy": lambda one: one.score,
        "seconds": lambda one: "" if one.seconds != one.seconds else f"{one.seconds:.1f}",
        "ended": lambda one: one.ended,
        "date": lambda one: one.date,
    }
    made = {head: [head, *map(cell, found)] for head, cell in cells.items()}
    widths = {head: max(map(len, column)) for head, column in made.items()}
    for head in FIRST_TO_GO:
        if width is not None and sum(widths.values()) + 2 * (len(widths) - 1) > width:
            del widths[head]
    right = ("steps", "loss", "accuracy", "seconds")
    return "\n".join(
        "  ".join(
            f"{made[head][row]:{'>' if head in right else '<'}{widths[head]}}" for head in widths
        ).rstrip()
        for row in range(len(found) + 1)
    )
