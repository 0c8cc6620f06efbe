"""``fgtrain train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fgnumba.configuration import RunConfig

RECORDS, FEW_RECORDS = 100, 10
"""Records of a run: one an epoch, but at most about so many, and about so many where there are fewer epochs."""


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
    help="Steps, instead of epochs.  [default: what suits estimator and model]",
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
@click.option("--out", metavar="DIR", help="Run folder, new or empty.  [default: runs/DATA-MODEL-N]")
@click.option("--config", metavar="FILE.toml", help="Settings, by the names of these options; options win.")
@click.option("--quiet", is_flag=True, help="Show errors alone.")
def train(out: str | None, config: str | None, quiet: bool, telemetry: int | None, **options: Any) -> None:
    """Train a model and leave a run folder.

    Without options: a perceptron on the embedded handwritten digits.
    """
    from fgnumba import run_folder
    from fgnumba.configuration import RunConfig

    settings = RunConfig() if config is None else RunConfig.from_toml(Path(config))
    settings = settings.updated({name: value for name, value in options.items() if value is not None})
    if out == "":
        raise click.UsageError("--out is empty; a folder is required")
    if out is not None:
        run_folder.check_destination(Path(out))
    run(settings, None if out is None else Path(out), quiet, telemetry)


def run(config: "RunConfig", out: Path | None, quiet: bool, telemetry: int | None = None) -> None:
    """Train as `config` says, and write the run folder."""
    from math import isfinite

    import fgnumba as fg
    from fgnumba import run_folder
    from fgnumba.assembly import assemble
    from fgnumba.cli.progress import Interrupt, progress
    from fgnumba.validation import whole_number

    dataset = fg.datasets.load(config.data, data_dir=config.data_dir)
    ready = assemble(config, dataset)
    config, model, trainer = ready.config, ready.model, ready.trainer
    followers: list[fg.Callback] = []
    files: dict[str, bytes] = {}
    if telemetry is not None:
        from fgnumba.bench.telemetry import Telemetry

        whole_number("telemetry", telemetry)
        if not model.processor.by_parts:
            raise fg.ConfigError(
                "telemetry compares with reverse mode, which is the CPU's: --device cpu is required"
            )
        followers.append(Telemetry(telemetry, dataset, config.batch_size, files))
    per_epoch = max(1, len(dataset.x_train) // config.batch_size)
    steps = config.steps or per_epoch
    destination = out or run_folder.next_free(Path("runs"), _name(config))
    run_folder.check_destination(destination)
    title = f"{_name(config)}, {model.parameter_count:,} parameters, on {model.processor.description}"
    with Interrupt() as interrupt, progress(quiet, title) as shown:
        try:
            history = trainer.fit(
                dataset,
                steps=steps,
                batch_size=config.batch_size,
                evaluate_every=max(min(per_epoch, -(-steps // FEW_RECORDS)), -(-steps // RECORDS)),
                callbacks=[*shown.callbacks, *followers, interrupt],
            )
        except fg.DivergenceError as error:
            if shown.history.records and isfinite(shown.history.final.test_loss):
                facts = {"version": fg.__version__, "diverged_at_step": trainer.steps_done}
                found = run_folder.write(destination, config, model, shown.history, facts, out is None, files)
                raise fg.DivergenceError(f"{error}; they are in {found}") from None
            raise
    facts = {"version": fg.__version__}
    found = run_folder.write(destination, config, model, history, facts, out is None, files)
    if out is not None and not (out.is_dir() and found.samefile(out)):
        raise fg.RunError(f"out: {out} was taken while this run trained; the run is in {found}")
    final = history.final
    if not quiet:
        click.echo(
            f"test accuracy {final.test_accuracy:.4f}, test loss {final.test_loss:.4f} "
            f"after {final.step} steps in {final.seconds:.1f} s; run folder {found}"
        )


def _name(config: "RunConfig") -> str:
    # As much as leaves room for a number in a file's name.
    return f"{Path(config.data).stem[:60]}-{Path(config.model).stem[:60]}"
