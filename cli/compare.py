"""``fgtrain compare``."""

from pathlib import Path
from typing import Any

import click

from fgnumba.cli.options import FOLDER, shared
from fgnumba.cli.progress import interruptible, spinner

DEFAULT = "feedback,local-feedback,activity-layerwise,weight-perturbation,reverse-mode"


@click.command()
@click.option(
    "--estimators",
    default=DEFAULT,
    metavar="NAME,...",
    help=f"As `fgtrain train` takes them, and reverse-mode.  [default: {DEFAULT}]",
)
@shared(
    "model", "widths", "data", "data_dir", "direction", "directions", "optimizer", "learning_rate", "decay"
)
@shared("momentum", "nesterov", "weight_decay", "clip_norm", "radius", "batch_size", "seed", "config")
@click.option("--seeds", type=int, default=1, metavar="N", help="Runs of each.  [default: 1]")
@click.option("--steps", type=int, metavar="N", help="Budget of each: steps.  [default: 2000]")
@click.option("--seconds", type=float, metavar="X", help="Budget of each: seconds of steps.")
@click.option("--products", type=float, metavar="X", help="Budget of each: multiply-adds.")
@click.option("--evaluations", type=int, default=20, metavar="N", help="Of each run.  [default: 20]")
@click.option("--target", type=float, metavar="X", help="Report when an accuracy was first reached.")
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="Folder of data and figure, without a result.  [default: compared/DATA-MODEL, -2, -3, ...]",
)
def compare(
    estimators: str,
    seeds: int,
    steps: int | None,
    seconds: float | None,
    products: float | None,
    evaluations: int,
    target: float | None,
    out: Path | None,
    config: Path | None,
    **options: Any,
) -> None:
    """Train with several estimators at an equal budget: loss and accuracy over steps, time and products.

    Each has its own searched optimiser and learning rate. Prints a table, and leaves data.json and figure.svg.
    """
    import fgnumba as fg
    from fgnumba.bench.learning.compare_estimators import Budget
    from fgnumba.bench.learning.compare_estimators import compare as run
    from fgnumba.cli.output import leave, results_folder
    from fgnumba.runs.assembly import written_model
    from fgnumba.runs.configuration import RunConfig, named

    given = {"steps": steps, "seconds": seconds, "products": products}
    chosen = {kind: amount for kind, amount in given.items() if amount is not None} or {"steps": 2000}
    if len(chosen) > 1:
        raise fg.ConfigError(f"{' and '.join(chosen)} are both given; give one budget")
    ((kind, amount),) = chosen.items()
    settings = RunConfig() if config is None else RunConfig.from_toml(config)
    settings = settings.updated({name: value for name, value in options.items() if value is not None})
    name = named(settings)
    with results_folder(out, Path("compared", name)) as folder:
        dataset = fg.datasets.load(settings.data, data_dir=settings.data_dir)
        # What is refused is said before the work.
        written_model(settings, dataset.classes)
        with interruptible(spinner(f"comparing on {name}")) as advance:
            result = run(
                [one.strip() for one in estimators.split(",") if one.strip()],
                settings,
                dataset,
                Budget(kind, amount),
                seeds=seeds,
                evaluations=evaluations,
                target=target,
                advance=advance,
            )
        leave(result, folder)
