"""``fgtrain train``."""

from pathlib import Path
from typing import Any

import click


class Widths(click.ParamType):
    """Whole numbers with commas between."""

    name = "N,N,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers."""
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers like 1024,1024", param, ctx)


@click.command()
@click.option(
    "--model",
    metavar="NAME|FILE.toml",
    help="logreg, mlp, cnn, resnet, or a file with [[layers]].  [default: mlp]",
)
@click.option("--widths", type=Widths(), help="Hidden layers of mlp.  [default: 1024,1024]")
@click.option(
    "--data",
    metavar="NAME|FILE",
    help="digits, mnist, fashion-mnist, an .npz file or IDX folder.  [default: digits]",
)
@click.option("--data-dir", metavar="DIR", help="Folder of the IDX files of mnist or fashion-mnist.")
@click.option(
    "--estimator",
    metavar="NAME",
    help="feedback, local-feedback, activity, weight-perturbation, ...; `fgtrain info` lists them.  "
    "[default: what suits the model]",
)
@click.option(
    "--direction", metavar="NAME", help="rank1, orthogonal, rademacher or gaussian, of the weights."
)
@click.option("--directions", type=int, metavar="T", help="Directions, or draws of noise, a step.")
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
@click.option("--batch-size", type=int, metavar="N", help="[default: 64]")
@click.option(
    "--optimizer", metavar="NAME", help="sgd, adam, adamw or frank-wolfe.  [default: the estimator's]"
)
@click.option(
    "--learning-rate",
    type=float,
    metavar="X",
    help="At the first step.  [default: the estimator's, searched]",
)
@click.option("--decay", type=float, metavar="X", help="k of rate × exp(-k step).  [default: 4 / steps]")
@click.option("--momentum", type=float, metavar="X", help="Of sgd.  [default: 0]")
@click.option(
    "--nesterov/--no-nesterov", default=None, help="Nesterov's momentum.  [default: the heavy ball]"
)
@click.option("--weight-decay", type=float, metavar="X", help="[default: 0; 0.01 for adamw]")
@click.option("--clip-norm", type=float, metavar="X", help="Greatest norm of a gradient.  [default: none]")
@click.option("--radius", type=float, metavar="X", help="Of frank-wolfe's ball.")
@click.option(
    "--telemetry", type=int, metavar="M", help="Every M steps, compare the estimate with the exact gradient."
)
@click.option("--seed", type=int, metavar="N", help="[default: 0]")
@click.option(
    "--device", metavar="NAME", help="auto (a GPU where there is one), cpu or cuda.  [default: auto]"
)
@click.option(
    "--stop-above",
    type=float,
    metavar="X",
    help="Stop where a loss is above X times the first.  [default: never]",
)
@click.option("--out", metavar="DIR", help="Run folder, new or empty.  [default: runs/DATA-MODEL-N]")
@click.option("--config", metavar="FILE.toml", help="Settings, by the names of these options; options win.")
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
@click.option("--resume", metavar="RUN", help="Continue the run in the folder RUN where it was interrupted.")
@click.option("--quiet", is_flag=True, help="Show errors alone.")
def train(
    out: str | None,
    config: str | None,
    checkpoint_every: str | None,
    keep: int | None,
    compact: bool | None,
    resume: str | None,
    quiet: bool,
    telemetry: int | None,
    **options: Any,
) -> int:
    """Train a model and leave a run folder.

    Without options: a perceptron on the embedded handwritten digits, until the accuracy on a held-out part of the
    training data gets no better. The test data are evaluated once, at the end. A run that is interrupted goes on with
    --resume, and ends bit for bit as if it had not been.
    """
    from fgnumba import run_folder
    from fgnumba.configuration import RunConfig

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
        return continued(Path(resume), given, quiet, keeping)
    from fgnumba.cli.run import begun

    settings = RunConfig() if config is None else RunConfig.from_toml(Path(config))
    settings = settings.updated(given)
    if out == "":
        raise click.UsageError("--out is empty; a folder is required")
    if out is not None:
        run_folder.check_destination(Path(out))
    return begun(settings, None if out is None else Path(out), quiet, telemetry, keeping)
