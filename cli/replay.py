"""``fgtrain replay``: rebuild the parameters of a run from its seed and its log of scalars."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fgnumba.cli.message import say, show
from fgnumba.cli.options import FILE, RUN, examples, shared
from fgnumba.cli.sections import Sectioned

if TYPE_CHECKING:
    from fgnumba.training.replay_log import Log
    from fgnumba.training.trainer import Trainer

REPORTS = 10
"""Number of progress messages in one replay."""


@click.command(
    cls=Sectioned,
    epilog=examples(
        "fgtrain train --estimator weight-perturbation --out runs/weights",
        "fgtrain replay runs/weights                # compare with the trained model",
        "fgtrain replay runs/weights --step 500 --output step-500.safetensors",
        "fgtrain replay runs/weights --json",
    ),
)
@click.argument("run", type=RUN, metavar="RUN")
@click.option(
    "--step",
    type=int,
    metavar="N",
    help="Rebuild the parameters after step N; 0 gives the initial ones.  [default: the step of the "
    "parameters in RUN's model.safetensors]",
)
@click.option(
    "--output",
    type=FILE,
    metavar="FILE.safetensors",
    help="Write the rebuilt parameters to this file.  [default: they are not written]",
)
@shared("trust_code")
@click.option("--quiet", is_flag=True, help="Print nothing but the result and errors.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object: step, sha256, and identical (true, false, or null where nothing was compared).",
)
def replay(run: Path, step: int | None, output: Path | None, quiet: bool, as_json: bool) -> int:
    """Rebuild the parameters of any step of RUN without its data.

    RUN is the folder of a run that was trained with weight perturbation, whose updates follow from the seed and the
    numbers in replay.log alone. The run need not have ended.

    Prints the step and the SHA-256 of the parameters. If they are of the same step as RUN's model.safetensors (the
    last step, or the best one with --restore-best), the command also prints whether the two are bit-identical, and
    exits with status 1 if they are not.
    """
    from safetensors.numpy import save

    from fgnumba.cli.output import check_output, write_output
    from fgnumba.errors import printable
    from fgnumba.layers.parameters import digest
    from fgnumba.runs import run_folder, saved_run
    from fgnumba.storage.json_lines import json_object
    from fgnumba.training.checkpoints import REPLAY
    from fgnumba.training.replay_log import read

    if output is not None:
        check_output(output)
    _, trainer = saved_run.read_start(run)
    log = read(run / REPLAY)
    left = saved_run.left_step(run, log.steps)
    done = retaken(trainer, log, left if step is None else step, quiet)
    if log.cut and not quiet:
        say(printable(log.cut))
    parameters = trainer.model.parameters()
    if output is not None:
        write_output(output, save(parameters))
    rebuilt = digest(parameters)
    trained = saved_run.read_parameters(run, trainer.model) if done == left else None
    alike = None if trained is None else digest(trained) == rebuilt
    if as_json:
        show(json_object({"step": done, "sha256": rebuilt, "identical": alike}))
    else:
        verdict = f", {'identical to' if alike else 'NOT those of'} {run_folder.MODEL}"
        show(f"step {done}, sha256 {rebuilt}{'' if alike is None else verdict}")
    return 1 if alike is False else 0


def retaken(trainer: "Trainer", log: "Log", step: int, quiet: bool) -> int:
    """Repeat the updates in a log up to a step, and show the progress.

    Parameters
    ----------
    trainer : Trainer
        The run's trainer in its initial state; its model's parameters are updated.
    log : Log
        The contents of the run's ``replay.log``.
    step : int
        Number of steps to repeat.
    quiet : bool
        Whether to show no progress.

    Returns
    -------
    int
        Number of steps that were repeated.
    """
    from contextlib import nullcontext

    from fgnumba.cli.progress import interruptible, steps_bar
    from fgnumba.training.replay import visits

    display = nullcontext(lambda what: None) if quiet else steps_bar("replay", REPORTS)
    done = 0
    with interruptible(display) as show:
        for done in visits(trainer, log, step, max(1, -(-step // REPORTS))):
            show(f"step {done}")
    return done
