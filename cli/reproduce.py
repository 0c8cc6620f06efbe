"""``fgtrain reproduce``: run an experiment of a paper and compare its numbers."""

from pathlib import Path

import click

from fgnumba.cli import completion
from fgnumba.cli.options import FOLDER, examples
from fgnumba.cli.sections import Sectioned


@click.command(
    cls=Sectioned,
    epilog=examples(
        "fgtrain reproduce beale            # gradient descent in two dimensions",
        "fgtrain reproduce mlp --quick",
        "fgtrain reproduce cnn --data-dir mnist --out reproduced/cnn",
    ),
)
@click.argument("name", metavar="NAME", shell_complete=completion.names(completion.EXPERIMENTS))
@click.option(
    "--quick", is_flag=True, help="Run a shortened version of the experiment; its title says that it is one."
)
@click.option(
    "--data-dir",
    shell_complete=completion.folders,
    metavar="DIR",
    help="Folder that holds MNIST's IDX files.  [default: the files are downloaded once and kept in the user's "
    "cache]",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    metavar="N",
    help="Seed of everything random; the same seed gives the same result.  [default: 0]",
)
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="Folder to write data.json and figure.svg into; it must not hold a result already.  "
    "[default: reproduced/NAME; reproduced/NAME-2, -3, ... if it does]",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print what data.json holds, and the folder, as one JSON object."
)
def reproduce(
    name: str, quick: bool, data_dir: str | None, seed: int, out: Path | None, as_json: bool
) -> None:
    """Run an experiment of a paper and compare its numbers.

    NAME is figure1, beale, rosenbrock, logreg, mlp, cnn, depth or memory, which are of arXiv 2202.08587;
    local-losses, which is of arXiv 2210.03310; or fair-map, forward gradients against reverse mode with checkpoints
    at equal time and memory, the question of arXiv 2506.21833. The command prints the numbers beside the paper's, and
    writes data.json and figure.svg.

    An interrupted run of logreg, mlp, cnn or fair-map continues where it was interrupted when the same command is run
    again.
    """
    from fgnumba.bench.experiments import EXPERIMENTS, Request
    from fgnumba.bench.experiments.contest import STATE
    from fgnumba.cli.output import leave, results_folder
    from fgnumba.cli.progress import interruptible, spinner
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
                    raise Ended(ended.number, "run the same command again to continue") from None
                raise
        leave(result, folder, as_json)
