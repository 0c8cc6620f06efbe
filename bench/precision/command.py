"""Measure every precision of products on this processor: ``python -m fgnumba.bench.precision``.

Printed is one table of figures beside their goals: the peak of each instruction set's own instruction, whether its bits
are those of its twin, dense products, training steps and those of JAX and PyTorch in the same rounds, and Rf with
bfloat16 tangents; see :mod:`fgnumba.bench.precision.measure`. The exit status is 0, or 1 if ``--goals`` is given and a
goal is missed, or 2 if nothing could be measured.
"""

import gc
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from fgnumba.bench.measure import machine
from fgnumba.bench.measure.files import write
from fgnumba.bench.measure.goals import Figure, lines, missed
from fgnumba.bench.measure.peers import versions
from fgnumba.bench.precision import measure
from fgnumba.bench.precision.settings import ROWS, STEP_CASES, here
from fgnumba.errors import ConfigError, FgError
from fgnumba.kernels.emit.tile_permission import refusal
from fgnumba.kernels.emit.vector import host_features
from fgnumba.kernels.machine.threads import thread_count
from fgnumba.validation import real_number

Report = dict[str, Any]

SECONDS, QUICK_SECONDS = 8.0, 1.0
QUICK_ROWS, QUICK_CASES = (64,), (("mlp", 64),)


def parts(seconds: float, quick: bool, with_peers: bool) -> dict[str, Callable[[], list[Figure]]]:
    """Return what is measured, by its description.

    Parameters
    ----------
    seconds : float
        Approximate time of each part.
    quick : bool
        Whether to measure the smallest sizes alone.
    with_peers : bool
        Whether to measure other frameworks too.
    """
    cases, rows = (QUICK_CASES, QUICK_ROWS) if quick else (STEP_CASES, ROWS)
    found: dict[str, Callable[[], list[Figure]]] = {
        "peaks": partial(measure.peaks, seconds),
        "bits": measure.bits,
    }
    for threads in sorted({1, thread_count()}):
        for count in rows:
            found[f"products of {count} rows on {threads} of {thread_count()} threads"] = partial(
                measure.products, count, threads, seconds
            )
    for network, batch in cases:
        found[f"steps of {network}, batch {batch}"] = partial(
            measure.steps, network, batch, seconds, with_peers
        )
    for network, batch in cases:
        found[f"tangents of {network}, batch {batch}"] = partial(measure.tangents, network, batch, seconds)
    return found


def run(
    seconds: float, quick: bool, with_peers: bool, advance: Callable[[str], None] = lambda what: None
) -> Report:
    """Measure everything, and return the report as JSON values.

    Parameters
    ----------
    seconds : float
        Approximate time of each part.
    quick : bool
        Whether to measure the smallest sizes alone.
    with_peers : bool
        Whether to measure other frameworks too.
    advance : callable
        Called with a description of what is measured next. Default: ignores it.
    """
    watch = machine.Watch()
    figures: list[Figure] = []
    for what, part in parts(seconds, quick, with_peers).items():
        advance(what)
        figures += part()
        gc.collect()
    facts = machine.facts() | {
        "multiplies_bfloat16": [isa.name for isa in here()],
        "tiles_refused": refusal() if "amx-bf16" in host_features() else None,
        "disturbed": machine.quiet(watch.foreign_share(), 0.0),
        "peers": versions() if with_peers else {},
    }
    return {"machine": facts, "figures": [figure.as_json() for figure in figures]}


def as_text(report: Report) -> str:
    """Return a report as text: the machine, and the table of figures.

    Parameters
    ----------
    report : dict
        The report, as :func:`run` returns it.
    """
    facts = report["machine"]
    sets = ", ".join(facts["multiplies_bfloat16"]) or "no instruction set"
    known = "".join(f", {name} {version}" for name, version in facts["peers"].items())
    head = [
        f"{facts['processor']} ({facts['architecture']}), {facts['threads']} threads; fgnumba {facts['fgnumba']}, "
        f"Numba {facts['numba']}{known}",
        f"bfloat16 is multiplied by {sets}; training uses {facts['instruction_set']}, and chooses {facts['precision']}",
    ]
    if facts["tiles_refused"]:
        head.append(f"amx is not used: {facts['tiles_refused']}")
    if facts["disturbed"]:
        head.append(f"NOT QUIET: {facts['disturbed']}; measure again before you believe it")
    return "\n".join([*head, "", *lines([Figure.from_json(values) for values in report["figures"]])])


class _NotRunError(click.ClickException):
    exit_code = 2


@click.command()
@click.option(
    "--json",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the report to this file as JSON.",
)
@click.option("--quick", is_flag=True, help="Measure only the smallest sizes, for a second each.")
@click.option(
    "--peers/--no-peers",
    default=True,
    help="Measure JAX and PyTorch too, where they are installed.  [default: --peers]",
)
@click.option(
    "--seconds",
    type=float,
    metavar="X",
    help="Approximate time to measure each part, in seconds.  [default: 8; 1 with --quick]",
)
@click.option(
    "--goals",
    is_flag=True,
    help="Exit with status 1 if a measurement misses its goal.  [default: exit with 0]",
)
@click.pass_context
def command(
    context: click.Context, file: Path | None, quick: bool, peers: bool, seconds: float | None, goals: bool
) -> None:
    """Measure every precision of products on this processor, beside JAX and PyTorch."""
    try:
        if file is not None and not file.absolute().parent.is_dir():
            raise ConfigError(f"--json: {str(file)!r} is in no folder that exists")
        default = QUICK_SECONDS if quick else SECONDS
        length = real_number("seconds", default if seconds is None else seconds, above_zero=True)

        def advance(what: str) -> None:
            click.echo(f"measuring {what}", err=True)

        report = run(length, quick, peers, advance)
        if file is not None:
            write(file, json.dumps(report, indent=1, allow_nan=False) + "\n")
    except FgError as error:
        raise _NotRunError(str(error)) from None
    click.echo(as_text(report))
    if goals and missed([Figure.from_json(values) for values in report["figures"]]):
        context.exit(1)


if __name__ == "__main__":
    command()
