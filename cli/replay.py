"""``fgtrain replay``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fgnumba.cli.message import say, show
from fgnumba.cli.options import FILE, RUN

if TYPE_CHECKING:
    from fgnumba.training.replay_log import Log
    from fgnumba.training.trainer import Trainer

REPORTS = 10
"""Lines of progress."""


@click.command()
@click.argument("run", type=RUN, metavar="RUN")
@click.option(
    "--step", type=int, metavar="N", help="Steps to take again.  [default: those that led to RUN's model]"
)
@click.option("--output", type=FILE, metavar="FILE.safetensors", help="Write the parameters.")
@click.option("--quiet", is_flag=True, help="Show the result and errors alone.")
def replay(run: Path, step: int | None, output: Path | None, quiet: bool) -> int:
    """Rebuild the parameters of any step of the run folder RUN from its seed and its log, without data.

    The run trained with weight perturbation; it need not have ended. Prints the step and a SHA-256 of the
    parameters, and after the step whose parameters RUN left (its last, or its best with --restore-best) whether they
    are those, bit for bit: exit status 1 where they are not.
    """
    from safetensors.numpy import save

    from fgnumba.cli.output import check_output, write_output
    from fgnumba.errors import printable
    from fgnumba.layers.parameters import digest
    from fgnumba.runs import run_folder
    from fgnumba.training.checkpoints import REPLAY
    from fgnumba.training.replay_log import read

    if output is not None:
        check_output(output)
    _, trainer = run_folder.read_start(run)
    log = read(run / REPLAY)
    left = run_folder.left_step(run, log.steps)
    done = retaken(trainer, log, left if step is None else step, quiet)
    if log.cut and not quiet:
        say(printable(log.cut))
    parameters = trainer.model.parameters()
    if output is not None:
        write_output(output, save(parameters))
    found = digest(parameters)
    trained = run_folder.read_parameters(run, trainer.model) if done == left else None
    if trained is None:
        show(f"step {done}, sha256 {found}")
        return 0
    alike = digest(trained) == found
    verdict = f"{'identical to' if alike else 'NOT those of'} {run_folder.MODEL}"
    show(f"step {done}, sha256 {found}, {verdict}")
    return 0 if alike else 1


def retaken(trainer: "Trainer", log: "Log", step: int, quiet: bool) -> int:
    """Take the steps of a log up to `step` again and show how far that is; return how many there were."""
    from contextlib import nullcontext

    from fgnumba.cli.progress import interruptible, steps_bar
    from fgnumba.training.replay import visits

    display = nullcontext(lambda what: None) if quiet else steps_bar("replay", REPORTS)
    done = 0
    with interruptible(display) as show:
        for done in visits(trainer, log, step, max(1, -(-step // REPORTS))):
            show(f"step {done}")
    return done
