"""``fgtrain bench``: measure forward gradients against reverse mode on this machine."""

import json
import os
from pathlib import Path

import click

from fgnumba.cli import completion
from fgnumba.cli.message import say, show
from fgnumba.cli.options import FILE_IN_A_FOLDER, examples
from fgnumba.cli.sections import Sectioned

STDOUT = Path("-")
"""The file name that stands for standard output."""


@click.command(
    cls=Sectioned,
    epilog=examples(
        "fgtrain bench --quick",
        "fgtrain bench --network mlp --batch 256",
        "fgtrain bench --network mlp --precision bf16x3 --tangent-precision bf16",
        "fgtrain bench --html report.html --json report.json",
        "fgtrain bench --quick --json -",
    ),
)
@click.option(
    "--json",
    "json_file",
    type=FILE_IN_A_FOLDER,
    metavar="FILE",
    help="Also write the machine's properties and all measurements to this file as JSON; - prints them on standard "
    "output in place of the table.",
)
@click.option(
    "--html",
    "html_file",
    type=FILE_IN_A_FOLDER,
    metavar="FILE",
    help="Also write a page with bars and tables to this file, for any browser or phone.",
)
@click.option(
    "--quick", is_flag=True, help="Measure only one rank-1 direction at batch size 64, for a second each."
)
@click.option(
    "--network",
    "networks",
    shell_complete=completion.names(completion.NETWORKS),
    multiple=True,
    metavar="NAME",
    help="Network to measure: logreg, mlp or cnn. May be given more than once.  [default: all three]",
)
@click.option(
    "--batch",
    type=int,
    metavar="N",
    help="Measure only at this batch size.  [default: 64, and 1, 8, 256 and 1024 with one direction]",
)
@click.option(
    "--precision",
    default="auto",
    shell_complete=completion.names(completion.PRECISIONS),
    metavar="NAME",
    help="Precision of the primal's products, and of all of reverse mode's: float32, bf16x3, bf16x2 or bf16, or auto, "
    "the fastest whose derivatives are as exact as float32's.  [default: auto]",
)
@click.option(
    "--tangent-precision",
    shell_complete=completion.names(completion.PRECISIONS),
    metavar="NAME",
    help="Precision of the tangents' products.  [default: that of --precision]",
)
@click.option(
    "--peers/--no-peers",
    default=True,
    help="Measure JAX and PyTorch too, where they are installed: in float32 and, if a precision is of bfloat16, in "
    "bfloat16.  [default: --peers]",
)
@click.option(
    "--seconds",
    type=float,
    metavar="X",
    help="Approximate time to measure each case, in seconds.  [default: 8; 1 with --quick]",
)
@click.option(
    "--goals",
    is_flag=True,
    help="Exit with status 1 if a measurement misses its goal.  [default: exit with 0]",
)
@click.pass_context
def bench(
    context: click.Context,
    json_file: Path | None,
    html_file: Path | None,
    quick: bool,
    networks: tuple[str, ...],
    batch: int | None,
    precision: str,
    tangent_precision: str | None,
    peers: bool,
    seconds: float | None,
    goals: bool,
) -> None:
    """Measure forward gradients against reverse mode on this machine.

    Both run on the same kernels. f is the loss of a batch. Rf is the time of a forward gradient, including the draw
    of its direction, divided by the time of f. Rb is the time of a reverse-mode gradient divided by the time of f.
    Training steps are measured as well. --precision and --tangent-precision choose how products multiply; reverse
    mode's multiply as the primal's do.

    JAX and PyTorch run in the same rounds where they are installed: pip install 'fgnumba[peers]'. The measurements of
    one rank-1 direction at batch size 64 are printed beside their goals, which assume that the machine is otherwise
    idle.
    """
    from fgnumba.bench.measure.files import write
    from fgnumba.bench.measure.goals import missed
    from fgnumba.bench.measure.networks import network
    from fgnumba.bench.measure.ratios import Case, cases
    from fgnumba.bench.report import suite
    from fgnumba.bench.report.report import page
    from fgnumba.cli.progress import interruptible, steps_bar
    from fgnumba.kernels.devices.device import Cpu
    from fgnumba.runs.figures import attempt
    from fgnumba.validation import real_number, whole_number

    default = 1.0 if quick else 8.0
    length = real_number("seconds", default if seconds is None else seconds, above_zero=True)
    for name in networks:
        network(name)
    device = Cpu(precision, tangent_precision)
    # A processor without the precision is refused before anything is measured.
    _ = device.isa
    to_stdout = json_file == STDOUT
    json_file = None if to_stdout else _place("--json", json_file)
    html_file = _place("--html", html_file)
    selected = [case for case in cases(quick, device) if not networks or case.network in networks]
    if batch is not None:
        whole_number("batch", batch)
        selected = [case for case in selected if case.batch == batch] or [
            Case(name, batch=batch, device=device)
            for name in dict.fromkeys(case.network for case in selected)
        ]
    with interruptible(steps_bar("measuring", suite.steps(selected, peers))) as advance:
        report = suite.run(selected, peers, length, advance)
    as_json = json.dumps(report, indent=1, allow_nan=False)
    try:
        if json_file is not None:
            write(json_file, as_json + "\n")
        if html_file is not None:
            attempt(html_file, lambda: page(report).encode(), say)
    finally:
        # The report is printed even where its files cannot be written.
        show(as_json if to_stdout else suite.as_text(report))
    missing = missed(suite.goals(report)) if goals else []
    for line in missing:
        say(f"goal missed: {line}")
    if missing:
        context.exit(1)


def _place(option: str, file: Path | None) -> Path | None:
    """Return the path of a file to write, with a link resolved; raise ConfigError where it cannot be written."""
    from fgnumba.errors import ConfigError

    if file is None:
        return None
    place = Path(os.path.realpath(file)) if file.is_symlink() else file
    folder = place.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"{option}: {str(file)!r} is in no folder that exists")
    if place.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"{option}: {str(file)!r} is a folder, or in one that is not writable")
    # An ordinary file would take the place of a device or a pipe.
    if place.exists() and not place.is_file():
        raise ConfigError(f"{option}: {str(file)!r} is no file; a file to write or replace is required")
    return place
