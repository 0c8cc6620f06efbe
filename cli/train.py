"""``fgtrain train``."""

from pathlib import Path
from typing import Any

import click

from fgnumba.cli.options import FOLDER, RUN, shared


@click.command()
@shared("model", "widths", "data", "data_dir")
@click.option(
    "--estimator",
    metavar="NAME",
    help="feedback, local-feedback, activity, weight-perturbation, ...; `fgtrain info` lists them.  "
    "[default: what suits the model]",
)
@shared("direction", "directions")
@click.option("--epochs", type=int, metavar="N", help="Passes over the training data.")
@click.option(
    "--steps",
    type=int,
    metavar="N",
    help="Steps, instead of epochs.  [default: at most what suits estimator and model, see --patience]",
)
@click.option(
    "--validation",
    type=float,
    metavar="X",
    help="Share of the training data that judges and does not train, 0 for none.  "
    "[default: 0.05 without --epochs and --steps, or with --patience; else 0]",
)
@click.option(
    "--patience",
    type=int,
    metavar="N",
    help="End after N records (of about 20) in a row without a better validation accuracy, 0 for never.  "
    "[default: 8 without --epochs and --steps; else 0]",
)
@click.option(
    "--restore-best/--no-restore-best",
    default=None,
    help="With patience, leave the parameters of the best record.  [default: those of the last step]",
)
@shared("batch_size", "optimizer", "learning_rate", "decay", "momentum", "nesterov")
@shared("weight_decay", "clip_norm", "radius")
@click.option(
    "--telemetry", type=int, metavar="M", help="Every M steps, compare the estimate with the exact gradient."
)
@shared("seed", "device")
@click.option(
    "--stop-above",
    type=float,
    metavar="X",
    help="Stop where a loss is above X times the first.  [default: never]",
)
@click.option(
    "--out", type=FOLDER, metavar="DIR", help="Run folder, new or empty.  [default: runs/DATA-MODEL-N]"
)
@shared("config")
@click.option(
    "--checkpoint-every",
    metavar="N|Mm",
    help="Steps between checkpoints, or minutes as in 10m.  [default: 5m]",
)
@click.option("--keep", type=int, metavar="K", help="Checkpoints that are kept.  [default: 2]")
@click.option(
    "--compact",
    is_flag=True,
    default=None,
    help="Checkpoints without arrays: rebuilt by replay, for weight perturbation.",
)
@click.option(
    "--resume",
    type=RUN,
    metavar="RUN",
    help="Continue the run in the folder RUN where it was interrupted.",
)
@click.option("--quiet", is_flag=True, help="Show errors alone.")
def train(
    out: Path | None,
    config: Path | None,
    checkpoint_every: str | None,
    keep: int | None,
    compact: bool | None,
    resume: Path | None,
    quiet: bool,
    telemetry: int | None,
    **options: Any,
) -> int:
    """Train a model and leave a run folder.

    Without options: a perceptron on the embedded handwritten digits, until the accuracy on a held-out part of the
    training data gets no better. The test data are evaluated once, at the end. A run that is interrupted goes on with
    --resume, and ends bit for bit as if it had not been.
    """
    from fgnumba.runs import run_folder
    from fgnumba.runs.configuration import RunConfig

    keeping = {"checkpoint_every": checkpoint_every, "keep": keep, "compact": compact}
    keeping = {name: value for name, value in keeping.items() if value is not None}
    given = {name: value for name, value in options.items() if value is not None}
    if resume is not None:
        from fgnumba.cli.run import continued

        others = {**given, "out": out, "config": config, "telemetry": telemetry}
        for name, value in others.items():
            if value is not None and name not in ("data", "data_dir"):
                raise click.UsageError(
                    f"--{name.replace('_', '-')} beside --resume: a run continues as it was begun"
                )
        return continued(resume, given, quiet, keeping)
    from fgnumba.cli.run import begun

    settings = RunConfig() if config is None else RunConfig.from_toml(config)
    settings = settings.updated(given)
    if out is not None:
        run_folder.check_destination(out)
    return begun(settings, out, quiet, telemetry, keeping)
