"""``fgtrain reproduce``."""

from pathlib import Path

import click

from fgnumba.cli.options import FOLDER
from fgnumba.cli.progress import interruptible, spinner


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--quick", is_flag=True, help="A shortened run, which says so.")
@click.option("--data-dir", metavar="DIR", help="Folder of MNIST's IDX files.")
@click.option("--seed", type=int, default=0, metavar="N", help="[default: 0]")
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="Folder of data and figure, without a result.  [default: reproduced/NAME, -2, -3, ...]",
)
def reproduce(name: str, quick: bool, data_dir: str | None, seed: int, out: Path | None) -> None:
    """Run one of the paper's experiments: figure1, beale, rosenbrock, logreg, mlp, cnn, depth, memory or local-losses.

    Prints numbers beside those of arXiv 2202.08587 (local-losses: arXiv 2210.03310), and leaves data.json and
    figure.svg. The trainings (logreg, mlp, cnn) go on where they were interrupted, when they are called again alike.
    """
    from fgnumba.bench.experiments import EXPERIMENTS, Request
    from fgnumba.bench.experiments.contest import STATE
    from fgnumba.cli.output import leave, results_folder
    from fgnumba.cli.signals import Ended
    from fgnumba.errors import ConfigError, did_you_mean
    from fgnumba.validation import whole_number

    if name not in EXPERIMENTS:
        raise ConfigError(f"experiment: unknown experiment {name!r}{did_you_mean(name, EXPERIMENTS)}")
    whole_number("seed", seed, 0)
    with results_folder(out, Path("reproduced", name)) as folder:
        with interruptible(spinner(f"reproducing {name}")) as advance:
            try:
                result = EXPERIMENTS[name](Request(name, seed, quick, data_dir, folder, advance))
            except Ended as ended:
                if (folder / STATE).exists():
                    raise Ended(ended.number, "the same command goes on from here") from None
                raise
        leave(result, folder)
