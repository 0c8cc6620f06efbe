"""``fgtrain compare``."""

from pathlib import Path
from typing import Any

import click

from fgnumba.cli.progress import interruptible, spinner
from fgnumba.cli.train import Widths

DEFAULT = "feedback,local-feedback,activity-layerwise,weight-perturbation,reverse-mode"


@click.command()
@click.option(
    "--estimators",
    default=DEFAULT,
    metavar="NAME,...",
    help=f"As `fgtrain train` takes them, and reverse-mode.  [default: {DEFAULT}]",
)
@click.option("--model", metavar="NAME|FILE.toml", help="[default: mlp]")
@click.option("--widths", type=Widths(), help="Hidden layers of mlp.")
@click.option("--data", metavar="NAME|FILE", help="[default: digits]")
@click.option("--data-dir", metavar="DIR", help="Folder of the IDX files of mnist or fashion-mnist.")
@click.option("--directions", type=int, metavar="T", help="Of every estimator that takes them.")
@click.option("--optimizer", metavar="NAME", help="[default: each estimator's]")
@click.option("--learning-rate", type=float, metavar="X", help="[default: each estimator's]")
@click.option("--batch-size", type=int, metavar="N", help="[default: 64]")
@click.option("--seed", type=int, metavar="N", help="[default: 0]")
@click.option("--seeds", type=int, default=1, metavar="N", help="Runs of each.  [default: 1]")
@click.option("--steps", type=int, metavar="N", help="Budget of each: steps.  [default: 2000]")
@click.option("--seconds", type=float, metavar="X", help="Budget of each: seconds of steps.")
@click.option("--products", type=float, metavar="X", help="Budget of each: multiply-adds.")
@click.option("--evaluations", type=int, default=20, metavar="N", help="Of each run.  [default: 20]")
@click.option("--target", type=float, metavar="X", help="Report when an accuracy was first reached.")
@click.option("--out", metavar="DIR", help="Folder of data and figure.  [default: compared/DATA-MODEL]")
def compare(
    estimators: str,
    seeds: int,
    steps: int | None,
    seconds: float | None,
    products: float | None,
    evaluations: int,
    target: float | None,
    out: str | None,
    **options: Any,
) -> None:
    """Train with several estimators at an equal budget: loss and accuracy over steps, time and products.

    Each has its own searched optimiser and learning rate. Prints a table, and leaves data.json and figure.svg.
    """
    import fgnumba as fg
    from fgnumba.bench.estimators import Budget
    from fgnumba.bench.estimators import compare as run
    from fgnumba.configuration import RunConfig

    given = {"steps": steps, "seconds": seconds, "products": products}
    chosen = {kind: amount for kind, amount in given.items() if amount is not None} or {"steps": 2000}
    if len(chosen) > 1:
        raise fg.ConfigError(f"{' and '.join(chosen)} are both given; give one budget")
    ((kind, amount),) = chosen.items()
    config = RunConfig().updated({name: value for name, value in options.items() if value is not None})
    if out == "":
        raise fg.ConfigError("--out is empty; a folder is required")
    dataset = fg.datasets.load(config.data, data_dir=config.data_dir)
    name = f"{Path(config.data).stem}-{Path(config.model).stem}"
    folder = Path("compared", name) if out is None else Path(out)
    if folder.exists() and not folder.is_dir():
        raise fg.RunError(f"out: {folder} is a file; a folder is required")
    with interruptible(spinner(f"comparing on {name}")) as advance:
        result = run(
            [one.strip() for one in estimators.split(",") if one.strip()],
            config,
            dataset,
            Budget(kind, amount),
            seeds=seeds,
            evaluations=evaluations,
            target=target,
            advance=advance,
        )
    result.write(folder)
    click.echo(result.title)
    click.echo(result.table())
    click.echo(f"data and figure in {folder}", err=True)
