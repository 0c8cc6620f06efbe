"""Measure everything and write the pages of results and of estimators.

The command is ``python -m fgnumba.bench.results --data-dir DIR``. Results that exist are kept; ``--again NAME``
measures one anew. Everything takes an hour on two cores, most of it for the training of the convolutional network.
"""

import os
import subprocess
import sys

import click

from fgnumba.bench.measure.files import write
from fgnumba.bench.measure.result import DATA as RESULT
from fgnumba.bench.measure.result import FIGURE
from fgnumba.bench.report import estimators_page
from fgnumba.bench.report.figure import write_figure
from fgnumba.bench.report.redraw import redraw
from fgnumba.bench.report.results_learning import COMPARISONS
from fgnumba.bench.report.results_page import (
    BENCHES,
    BENCHMARKS,
    DATA,
    EXPERIMENTS,
    FOLDER,
    LEARNING,
    MAP,
    RUNS,
    SECONDS,
    fair_map,
    learning_table,
    page,
    ratios_table,
    with_table,
)
from fgnumba.errors import FgError, did_you_mean

_FGTRAIN = "from fgnumba.cli.main import main; main()"


def _fgtrain(*arguments: str, processors: int | None = None) -> None:
    """Run ``fgtrain`` in a process of its own, on a number of processors; None: on all."""
    setup = ""
    if processors is not None and hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))[:processors]
        setup = f"import os; os.sched_setaffinity(0, {allowed}); "
    subprocess.run([sys.executable, "-c", setup + _FGTRAIN, *arguments], check=True)


def _measure(name: str, data_dir: str | None) -> None:
    if name in BENCHES:
        processors = 1 if name == "bench-one" else None
        for run in range(1, RUNS + 1):
            file = str(DATA / f"{name}.{run}.json")
            _fgtrain("bench", "--quick", "--seconds", str(SECONDS), "--json", file, processors=processors)
        _fgtrain("bench", "--json", str(DATA / f"{name}.json"), processors=processors)
        return
    data = ["--data-dir", data_dir] if data_dir is not None else []
    # The commands refuse to overwrite a result, so that one to be measured anew is removed first.
    for file in (RESULT, FIGURE):
        (DATA / name / file).unlink(missing_ok=True)
    if name in COMPARISONS:
        _fgtrain("compare", "--data", "mnist", *data, *COMPARISONS[name].options, "--out", str(DATA / name))
        return
    _fgtrain("reproduce", name, "--out", str(DATA / name), *data)


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.command()
@click.option(
    "--data-dir",
    metavar="DIR",
    help="Folder that holds MNIST's IDX files.  [default: they are downloaded once]",
)
@click.option(
    "--again",
    multiple=True,
    metavar="NAME",
    help="Measure this result anew, though it exists. May be given more than once.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Of the missing results, measure only this one. May be given more than once.  [default: all]",
)
@click.option(
    "--redraw",
    "redrawing",
    is_flag=True,
    help="Measure nothing; draw the figures of all results that exist again, from their numbers.",
)
def command(data_dir: str | None, again: tuple[str, ...], only: tuple[str, ...], redrawing: bool) -> None:
    """Measure all missing results; write the pages of results, estimators and benchmarks, and their figures."""
    names = [*BENCHES, *EXPERIMENTS, *COMPARISONS]
    for name in (*again, *only):
        if name not in names:
            raise click.UsageError(f"unknown name {name!r}{did_you_mean(name, names)}")
    if not BENCHMARKS.exists():
        raise click.ClickException(
            f"{BENCHMARKS} is missing: results are made in a checkout, pip install -e '.[peers]'"
        )
    if redrawing:
        estimators_page.write_figure(_say)
        for path in sorted(DATA.glob(f"*/{RESULT}")):
            redraw(path.parent, _say)
        write_figure(FOLDER.parent / "figures" / "step.svg", _say)
        return
    DATA.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = DATA / f"{name}.json" if name in BENCHES else DATA / name / "data.json"
        if name in again or (not path.exists() and (not only or name in only)):
            try:
                _measure(name, data_dir)
            except subprocess.CalledProcessError as error:
                raise click.ClickException(f"{name}: ended with status {error.returncode}") from None
    try:
        write(FOLDER / "README.md", page())
        text = with_table(BENCHMARKS.read_text(encoding="utf-8"), ratios_table())
        text = with_table(text, learning_table(), *LEARNING)
        write(BENCHMARKS, with_table(text, fair_map(), *MAP))
        write_figure(FOLDER.parent / "figures" / "step.svg", _say)
        write(estimators_page.PAGE, estimators_page.page())
        estimators_page.write_figure(_say)
    except FgError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"results in {FOLDER}", err=True)


if __name__ == "__main__":
    command()
