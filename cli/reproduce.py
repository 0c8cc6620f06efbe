"""``fgtrain reproduce``."""

from pathlib import Path

import click

from fgnumba.cli.progress import interruptible, spinner


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--quick", is_flag=True, help="A shortened run, which says so.")
@click.option("--data-dir", metavar="DIR", help="Folder of MNIST's IDX files.")
@click.option("--seed", type=int, default=0, metavar="N", help="[default: 0]")
@click.option("--out", metavar="DIR", help="Folder of data and figure.  [default: reproduced/NAME]")
def reproduce(name: str, quick: bool, data_dir: str | None, seed: int, out: str | None) -> None:
    """Run one of the paper's experiments: figure1, beale, rosenbrock, logreg, mlp, cnn, depth, memory or local-losses.

    Prints numbers beside those of arXiv 2202.08587 (local-losses: arXiv 2210.03310), and leaves data.json and
    figure.svg. The trainings (logreg, mlp, cnn) go on where they were interrupted, when they are called again alike.
    """
    from fgnumba.bench.experiments import EXPERIMENTS, Request
    from fgnumba.bench.experiments.contest import STATE
    from fgnumba.errors import ConfigError, did_you_mean
    from fgnumba.validation import whole_number

    if name not in EXPERIMENTS:
        raise ConfigError(f"experiment: unknown experiment {name!r}{did_you_mean(name, EXPERIMENTS)}")
    whole_number("seed", seed, 0)
    if out == "":
        raise ConfigError("--out is empty; a folder is required")
    folder = Path("reproduced", name) if out is None else Path(out)
    with interruptible(spinner(f"reproducing {name}")) as advance:
        try:
            result = EXPERIMENTS[name](Request(name, seed, quick, data_dir, folder, advance))
        except KeyboardInterrupt:
            if (folder / STATE).exists():
                click.echo("interrupted: the same command goes on from here", err=True)
            raise
    result.write(folder)
    click.echo(result.title)
    click.echo(result.table())
    click.echo(f"data and figure in {folder}", err=True)
