"""``fgtrain train``: train a model and write a run folder."""

from pathlib import Path
from typing import Any

import click

from fgnumba.cli.completion import LOGGERS, names
from fgnumba.cli.options import FOLDER, RUN, examples, shared, trust_named, trust_the_user
from fgnumba.cli.sections import SECTIONS, Sectioned

CONTINUED = ("data", "data_dir", "steps", "epochs", "precision", "tangent_precision")
"""Settings that may be given beside ``--resume``: where the data are now, the length of the run, and the precision,
which another processor may lack."""


@click.command(
    cls=Sectioned,
    sections=SECTIONS,
    epilog=examples(
        "fgtrain train                                  # ends by itself",
        "fgtrain train --data mnist --model cnn --epochs 3",
        "fgtrain train --widths 256,128 --steps 2000 --seed 1",
        "fgtrain train --data digits.npz --config settings.toml --out runs/mine",
        "fgtrain train --data iris.csv --target species",
        "fgtrain train --model char-lstm --data book.txt",
        "fgtrain train --model char-transformer --data book.txt",
        "fgtrain train --resume runs/mine               # continue an interrupted run",
        "fgtrain train --resume runs/mine --steps 4000  # train it further",
        "fgtrain train --json > result.json",
    ),
)
@shared(
    *("model", "widths", "data", "data_dir", "target", "drop", "symbols", "context", "loss", "estimator"),
    *("direction", "directions"),
)
@click.option(
    "--epochs", type=int, metavar="N", help="Number of passes over the training data; excludes --steps."
)
@click.option(
    "--steps",
    type=int,
    metavar="N",
    help="Number of training steps; excludes --epochs.  [default: a limit that suits the estimator and the "
    "model, but --patience can end the run earlier]",
)
@click.option(
    "--validation",
    type=float,
    metavar="X",
    help="Fraction of the training data, from 0 to below 1, that is held out to judge the run and not trained "
    "on; 0 holds out none.  [default: 0.05 with --patience, or with neither --epochs nor --steps; else 0]",
)
@click.option(
    "--patience",
    type=int,
    metavar="N",
    help="End the run after N evaluations in a row without a better validation accuracy (a full run has about "
    "20); 0 never ends it early.  [default: 8 with neither --epochs nor --steps; else 0]",
)
@click.option(
    "--restore-best/--no-restore-best",
    default=None,
    help="With --patience, keep the parameters of the evaluation with the best validation accuracy in place "
    "of those of the last step.  [default: --no-restore-best; --restore-best for a table]",
)
@shared("augment", "batch_size", "optimizer", "learning_rate", "decay", "schedule", "warmup")
@shared("momentum", "nesterov", "weight_decay", "clip_norm", "radius")
@click.option(
    "--telemetry",
    type=int,
    metavar="M",
    help="Every M steps, compare the estimated gradient with the exact one, and write the angle and the error "
    "to gradient.jsonl in the run folder (CPU only).  [default: never]",
)
@click.option(
    "--logger",
    "loggers",
    multiple=True,
    metavar="NAME",
    shell_complete=names(LOGGERS),
    help="Log the run for another tool, into the run folder: csv (log.csv), tensorboard (tensorboard/), mlflow "
    "(mlruns/) or wandb (wandb/); may be given several times.  [default: none]",
)
@shared("seed", "device", "precision", "tangent_precision")
@click.option(
    "--stop-above",
    type=float,
    metavar="X",
    help="Report divergence and stop once the training loss exceeds X times the loss of the first step.  "
    "[default: only once the loss is not finite]",
)
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="Run folder to write; it must be new or empty.  [default: runs/DATA-MODEL-N, such as "
    "runs/digits-mlp-1, with the first N that is free]",
)
@shared("config")
@click.option(
    "--checkpoint-every",
    metavar="N|Mm",
    help="Interval between checkpoints: a number of steps, such as 1000, or of minutes, such as 10m.  "
    "[default: 5m]",
)
@click.option(
    "--keep",
    type=int,
    metavar="K",
    help="Number of latest checkpoints to keep; older ones are removed.  [default: 2]",
)
@click.option(
    "--compact",
    is_flag=True,
    default=None,
    help="Write checkpoints without the parameters, which --resume rebuilds by repeating all updates from "
    "replay.log; only for weight perturbation.",
)
@click.option(
    "--resume",
    type=RUN,
    metavar="RUN",
    help="Continue the run in the folder RUN from its last checkpoint, with its own settings. --steps or --epochs, "
    "counted from its first step, train it further, also if it has ended. --precision continues it in another one.",
)
@shared("trust_code")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the result as one JSON object in place of a line: run folder, steps, seconds, losses and accuracies, "
    "what ended the run.",
)
def train(
    out: Path | None,
    config: Path | None,
    checkpoint_every: str | None,
    keep: int | None,
    compact: bool | None,
    resume: Path | None,
    quiet: bool,
    as_json: bool,
    telemetry: int | None,
    loggers: tuple[str, ...],
    **options: Any,
) -> int:
    """Train a model with forward gradients and write a run folder.

    Without options, the command trains a multilayer perceptron on the handwritten digits that fgnumba includes, until
    the accuracy on held-out training data stops improving. It evaluates the test data once, at the end. The run folder
    holds config.toml (all settings), metrics.jsonl (losses and accuracies), model.safetensors (parameters) and
    loss.png.

    Ctrl-C ends the run after the current step with a checkpoint. --resume then continues it, and the result is
    bit-identical to that of an uninterrupted run. So is that of a run which --resume with --steps trains further.
    """
    from fgnumba.runs import run_folder
    from fgnumba.runs.configuration import configured

    keeping = {"checkpoint_every": checkpoint_every, "keep": keep, "compact": compact}
    keeping = {name: value for name, value in keeping.items() if value is not None}
    given = {name: value for name, value in options.items() if value is not None}
    if resume is not None:
        from fgnumba.cli.run import Told, continued

        others = {**given, "out": out, "config": config, "telemetry": telemetry}
        others["logger"] = loggers or None
        for name, value in others.items():
            if value is not None and name not in CONTINUED:
                raise click.UsageError(
                    f"--{name.replace('_', '-')} and --resume are both given; "
                    f"a run continues with the settings that it began with"
                )
        trust_named(given.get("data"))
        return continued(resume, given, Told(quiet, as_json), keeping)
    from fgnumba.cli.run import Told, begun

    settings = configured(config, given)
    if out is not None:
        run_folder.check_destination(out)
    trust_the_user()
    return begun(settings, out, Told(quiet, as_json), telemetry, loggers, keeping)
