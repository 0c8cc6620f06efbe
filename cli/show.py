"""``fgtrain show``: a run's settings and curves in the terminal, or as an HTML page."""

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fgnumba.cli.message import say
from fgnumba.cli.message import show as show_text
from fgnumba.cli.options import FILE_IN_A_FOLDER, RUN, examples
from fgnumba.cli.screen import WIDE, can_print, columns

if TYPE_CHECKING:
    from fgnumba.runs.listing import Shown


@click.command(
    epilog=examples(
        "fgtrain show runs/digits-mlp-1",
        "fgtrain show runs/digits-mlp-1 --html report.html",
        "fgtrain show runs/digits-mlp-1 --json",
    )
)
@click.argument("run", type=RUN, metavar="RUN")
@click.option(
    "--html",
    "html_file",
    type=FILE_IN_A_FOLDER,
    metavar="FILE",
    help="Write a page about the run to this file, for any browser: curves, settings, model, records.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: numbers, settings and records.")
def show(run: Path, html_file: Path | None, as_json: bool) -> None:
    """Show the settings and the curves of RUN.

    RUN is a run folder; the run need not have ended. The curves are those of its loss.png: the loss and the error in
    per cent on logarithmic axes, or the metric of a regression on a linear one.
    """
    from fgnumba.errors import printable
    from fgnumba.runs import listing

    found = listing.read(run)
    if html_file is not None:
        from fgnumba.cli.output import check_output, write_output
        from fgnumba.runs.report import report

        check_output(html_file)
        write_output(html_file, report(run, found).encode("utf-8", "replace"))
    if as_json:
        show_text(_as_json(found))
    elif html_file is None:
        show_text(_as_text(run, found, columns() or 80))
    else:
        say(printable(f"page written to {html_file}"))


def _as_json(found: "Shown") -> str:
    from fgnumba.cli.runs import values
    from fgnumba.runs.listing import settings
    from fgnumba.training.metrics import line_of

    return json.dumps(
        {
            **values(found.summary),
            "settings": {name.replace(" ", "_"): text for name, text in settings(found.config)},
            "records": [json.loads(line_of(record)) for record in found.records],
        },
        allow_nan=False,
    )


def _as_text(run: Path, found: "Shown", width: int) -> str:
    from fgnumba.runs.listing import headline, settings
    from fgnumba.runs.loss_log import read_losses
    from fgnumba.runs.report import charts_of
    from fgnumba.runs.text_charts import ASCII, UNICODE, text_chart

    rows = list(settings(found.config))
    wide = max(len(name) for name, _ in rows)
    sentence = textwrap.wrap(headline(found.summary), min(width, WIDE) - 1)
    parts = [*sentence, "", *(f"{name:{wide}}  {text}" for name, text in rows)]
    characters = UNICODE if can_print("⠒•◯■│") else ASCII
    for label, lines, logarithmic in charts_of(found.records, read_losses(run)):
        drawn = text_chart(lines, label, min(width, WIDE) - 1, characters, logarithmic)
        parts += ["", *drawn] if drawn else []
    return "\n".join(parts)
