"""``fgtrain bench``."""

import json
import os
from pathlib import Path

import click

from fgnumba.cli.message import say, show
from fgnumba.cli.options import FILE_IN_A_FOLDER
from fgnumba.cli.progress import interruptible, steps_bar


@click.command()
@click.option(
    "--json", "json_file", type=FILE_IN_A_FOLDER, metavar="FILE", help="Also as JSON: machine, ratios, peers."
)
@click.option(
    "--html",
    "html_file",
    type=FILE_IN_A_FOLDER,
    metavar="FILE",
    help="Also as one page with figures, for any browser.",
)
@click.option("--quick", is_flag=True, help="One rank-1 direction, batch 64, a second each.")
@click.option(
    "--network", "networks", multiple=True, metavar="NAME", help="logreg, mlp or cnn; all by default."
)
@click.option("--batch", type=int, metavar="N", help="Only cases with this batch size.")
@click.option("--peers/--no-peers", default=True, help="Whether JAX and PyTorch, where installed, run too.")
@click.option("--seconds", type=float, metavar="X", help="About so long a case.  [default: 8]")
@click.option("--goals", is_flag=True, help="Exit with status 1 where a goal is missed.")
@click.pass_context
def bench(
    context: click.Context,
    json_file: Path | None,
    html_file: Path | None,
    quick: bool,
    networks: tuple[str, ...],
    batch: int | None,
    peers: bool,
    seconds: float | None,
    goals: bool,
) -> None:
    """Measure Rf, Rb and training steps against reverse mode on the same kernels.

    Rf is the time of a forward gradient, its direction drawn, over the time of f; Rb that of a reverse-mode gradient.
    Peers run in the same rounds where they are installed: pip install '.[peers]'. Figures of a rank-1 direction at
    batch 64 stand beside their goals, which are for a quiet machine.
    """
    from fgnumba.bench.measure.files import write
    from fgnumba.bench.measure.goals import missed
    from fgnumba.bench.measure.networks import network
    from fgnumba.bench.measure.ratios import Case, cases
    from fgnumba.bench.report import suite
    from fgnumba.bench.report.report import page
    from fgnumba.runs.figures import attempt
    from fgnumba.validation import real_number, whole_number

    default = 1.0 if quick else 8.0
    length = real_number("seconds", default if seconds is None else seconds, above_zero=True)
    for name in networks:
        network(name)
    json_file, html_file = _place("--json", json_file), _place("--html", html_file)
    chosen = [case for case in cases(quick) if not networks or case.network in networks]
    if batch is not None:
        whole_number("batch", batch)
        chosen = [case for case in chosen if case.batch == batch] or [
            Case(name, batch=batch) for name in dict.fromkeys(case.network for case in chosen)
        ]
    if html_file is not None:
        page({"machine": {}, "ratios": [], "peers": []})
    with interruptible(steps_bar("measuring", suite.steps(chosen, peers))) as advance:
        report = suite.run(chosen, peers, length, advance)
    try:
        if json_file is not None:
            write(json_file, json.dumps(report, indent=1, allow_nan=False) + "\n")
        if html_file is not None:
            attempt(html_file, lambda: page(report).encode(), say)
    finally:
        # What cannot be written is printed all the same.
        show(suite.as_text(report))
    missing = missed(suite.goals(report)) if goals else []
    for line in missing:
        say(f"goal missed: {line}")
    if missing:
        context.exit(1)


def _place(option: str, file: Path | None) -> Path | None:
    """Return where a file is to be written: what a link leads to; ConfigError where that cannot be."""
    from fgnumba.errors import ConfigError

    if file is None:
        return None
    place = Path(os.path.realpath(file)) if file.is_symlink() else file
    folder = place.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"{option}: {str(file)!r} is in no folder that exists")
    if place.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"{option}: {str(file)!r} is a folder, or in one that is not writable")
    # Another file would take its place.
    if place.exists() and not place.is_file():
        raise ConfigError(f"{option}: {str(file)!r} is no file; a file to write or replace is required")
    return place
