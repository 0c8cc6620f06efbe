"""``fgtrain train``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fgnumba.configuration import RunConfig
    from fgnumba.datasets import Dataset
    from fgnumba.graph import Graph

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
@click.option("--widths", type=Widths(), help="Hidden layers of mlp.  [default: 32]")
@click.option(
    "--data",
    metavar="NAME|FILE",
    help="digits, mnist, fashion-mnist, an .npz file or IDX folder.  [default: digits]",
)
@click.option("--data-dir", metavar="DIR", help="Folder of the IDX files of mnist or fashion-mnist.")
@click.option("--estimator", metavar="NAME", help="weight-perturbation.  [default: weight-perturbation]")
@click.option("--direction", metavar="NAME", help="rank1, rademacher or gaussian.  [default: rank1]")
@click.option(
    "--directions", type=int, metavar="T", help="Directions a step.  [default: 64; 16 for cnn and resnet]"
)
@click.option("--epochs", type=int, metavar="N", help="Passes over the training data.")
@click.option(
    "--steps",
    type=int,
    metavar="N",
    help="Steps, instead of epochs.  [default: 20000; 2000 for cnn, resnet]",
)
@click.option("--batch-size", type=int, metavar="N", help="[default: 64]")
@click.option(
    "--learning-rate", type=float, metavar="X", help="At the first step.  [default: from the model's size]"
)
@click.option("--decay", type=float, metavar="X", help="k of rate × exp(-k step).  [default: 4 / steps]")
@click.option("--momentum", type=float, metavar="X", help="[default: 0]")
@click.option("--seed", type=int, metavar="N", help="[default: 0]")
@click.option("--device", metavar="NAME", help="auto, cpu or cuda.  [default: auto]")
@click.option("--out", metavar="DIR", help="Run folder, new or empty.  [default: runs/DATA-MODEL-N]")
@click.option("--config", metavar="FILE.toml", help="Settings, by the names of these options; options win.")
@click.option("--quiet", is_flag=True, help="Show errors alone.")
def train(out: str | None, config: str | None, quiet: bool, **options: Any) -> None:
    """Train a model and leave a run folder.

    Without options: a small perceptron on the embedded handwritten digits.
    """
    from fgnumba import run_folder
    from fgnumba.configuration import RunConfig

    settings = RunConfig() if config is None else RunConfig.from_toml(Path(config))
    settings = settings.updated({name: value for name, value in options.items() if value is not None})
    if out == "":
        raise click.UsageError("--out is empty; a folder is required")
    if out is not None:
        run_folder.check_destination(Path(out))
    run(settings, None if out is None else Path(out), quiet)


def run(config: "RunConfig", out: Path | None, quiet: bool) -> None:
    """Train as `config` says, and write the run folder."""
    from math import isfinite

    import fgnumba as fg
    from fgnumba import run_folder
    from fgnumba.cli.progress import Interrupt, progress
    from fgnumba.configuration import DECADES
    from fgnumba.presets import default_learning_rate, defaults

    suited = defaults(config.model)
    config = config.updated({"directions": config.directions or suited.directions})
    estimator = fg.WeightPerturbation(config.direction, config.directions or suited.directions)
    dataset = fg.datasets.load(config.data, data_dir=config.data_dir)
    config, model = build(config, dataset)
    per_epoch = max(1, len(dataset.x_train) // config.batch_size)
    steps = config.steps or (per_epoch * config.epochs if config.epochs else suited.steps)
    rate = config.learning_rate or default_learning_rate(
        model.parameter_count, estimator.directions, config.momentum, suited.rate
    )
    decay = DECADES / steps if config.decay is None else config.decay
    config = config.updated({"steps": steps, "learning_rate": rate, "decay": decay})
    trainer = fg.Trainer(
        model,
        estimator=estimator,
        optimizer=fg.SGD(rate, decay=decay, momentum=config.momentum),
        seed=config.seed,
    )
    destination = out or run_folder.next_free(Path("runs"), _name(config))
    run_folder.check_destination(destination)
    title = f"{_name(config)}, {model.parameter_count:,} parameters"
    with Interrupt() as interrupt, progress(quiet, title) as shown:
        try:
            history = trainer.fit(
                dataset,
                steps=steps,
                batch_size=config.batch_size,
                evaluate_every=max(min(per_epoch, -(-steps // FEW_RECORDS)), -(-steps // RECORDS)),
                callbacks=[*shown.callbacks, interrupt],
            )
        except fg.DivergenceError as error:
            if shown.history.records and isfinite(shown.history.final.test_loss):
                facts = {"version": fg.__version__, "diverged_at_step": trainer.steps_done}
                found = run_folder.write(destination, config, model, shown.history, facts, out is None)
                raise fg.DivergenceError(f"{error}; they are in {found}") from None
            raise
    found = run_folder.write(destination, config, model, history, {"version": fg.__version__}, out is None)
    if out is not None and not (out.is_dir() and found.samefile(out)):
        raise fg.RunError(f"out: {out} was taken while this run trained; the run is in {found}")
    final = history.final
    if not quiet:
        click.echo(
            f"test accuracy {final.test_accuracy:.4f}, test loss {final.test_loss:.4f} "
            f"after {final.step} steps in {final.seconds:.1f} s; run folder {found}"
        )


def written_model(config: "RunConfig", classes: int) -> tuple[list[dict[str, Any]], str]:
    """Return the tables of a configuration's model, and what they stand in."""
    from fgnumba.configuration import read_toml
    from fgnumba.errors import ConfigError
    from fgnumba.presets import tables

    where = f"model {config.model}"
    if config.layers is not None:
        return list(config.layers), "config"
    if not config.model.endswith(".toml"):
        return tables(config.model, classes, config.widths), where
    file = read_toml(Path(config.model), "model")
    for key in file:
        if key != "layers":
            raise ConfigError(f"{where}: unknown key {key!r} (choose from layers)")
    written = file.get("layers", [])
    if not isinstance(written, list) or not written:
        raise ConfigError(f"{where}: [[layers]] is missing")
    return written, where


def build(config: "RunConfig", dataset: "Dataset") -> "tuple[RunConfig, Graph]":
    """Return the configuration with the model's layers written out, and the model."""
    from fgnumba.datasets import NAMES
    from fgnumba.presets import model_from

    written, where = written_model(config, dataset.classes)
    model = model_from(written, dataset.classes, where, dataset.input_shape, config.seed, config.device)
    resolved = [
        {**table, **({"units": dataset.classes} if table.get("units") == "classes" else {})}
        for table in written
    ]
    # Absolute, so that the run's configuration holds from every folder.
    paths = {
        name: os.path.abspath(path)
        for name, path in (("data", config.data), ("data_dir", config.data_dir))
        if path is not None and (name == "data_dir" or path not in NAMES)
    }
    return config.updated({"layers": tuple(resolved), "device": model.device, **paths}), model


def _name(config: "RunConfig") -> str:
    # As much as leaves room for a number in a file's name.
    return f"{Path(config.data).stem[:60]}-{Path(config.model).stem[:60]}"
