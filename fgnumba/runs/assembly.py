"""From a configuration to a trainer: what is not given is chosen, and written down."""

import os
from dataclasses import dataclass, fields, replace
from typing import Any

from fgnumba.datasets import NAMES, Dataset
from fgnumba.datasets.split import judges
from fgnumba.errors import ConfigError, DatasetError, shown
from fgnumba.estimators import Recipe, recipe
from fgnumba.model.graph import Graph
from fgnumba.optimizers import OPTIMIZERS, Optimizer
from fgnumba.runs.configuration import DECADES, RunConfig, read_toml
from fgnumba.runs.presets import model_from, tables
from fgnumba.training.defaults import default_learning_rate, defaults
from fgnumba.training.trainer import Trainer
from fgnumba.validation.paths import expanded, path_of

FEWEST_STEPS = 800
"""Of a run whose length is not given, however small its data."""


@dataclass(frozen=True)
class Assembled:
    """A run that is ready to begin.

    Parameters
    ----------
    config : with everything written out that decides it.
    per_epoch : steps of a pass over the data that train.
    """

    config: RunConfig
    model: Graph
    trainer: Trainer
    per_epoch: int


def assemble(config: RunConfig, dataset: Dataset, chosen: Recipe | None = None) -> Assembled:
    """Return the trainer of a configuration on a data set.

    Parameters
    ----------
    chosen : the recipe of the configuration's estimator, where it is none of the library's.

    Raises
    ------
    ConfigError, ShapeError
    DatasetError
        The share to hold out that was given, or that patience needs, is less than an example.
    """
    suited = defaults(config.model)
    name = config.estimator or suited.estimator
    chosen = chosen or recipe(name)
    directions = config.directions
    if directions is None and chosen.learning_rate is None and "directions" in chosen.takes:
        directions = suited.directions
    judged = _judged(config, dataset)
    config, model = build(judged.updated({"estimator": name, "directions": directions}), dataset)
    per_epoch = max(1, _examples(config, dataset) // config.batch_size)
    most = chosen.steps or suited.steps
    if chosen.epochs is not None:
        most = min(most, max(FEWEST_STEPS, per_epoch * chosen.epochs))
    steps = config.steps or (per_epoch * config.epochs if config.epochs else most)
    kind = config.optimizer or chosen.optimizer
    rate = config.learning_rate or chosen.rates.get(config.model, chosen.learning_rate)
    if rate is None:
        count = directions or 1
        rate = default_learning_rate(model.parameter_count, count, config.momentum or 0.0, suited.rate)
    decay = DECADES / steps if config.decay is None else config.decay
    config = config.updated({"steps": steps, "optimizer": kind, "learning_rate": rate, "decay": decay})
    return Assembled(config, model, trainer(config, model, chosen), per_epoch)


def _judged(config: RunConfig, dataset: Dataset) -> RunConfig:
    """Write out what is held out; nothing where nobody asked for it and the data are too few."""
    found = config.judged()
    if config.validation is None and not config.patience and found.validation:
        try:
            judges(dataset, found.validation, config.seed)
        except DatasetError:
            return replace(config, validation=0.0).judged()
    return found


def _examples(config: RunConfig, dataset: Dataset) -> int:
    """Return how many examples are left to train on."""
    held = judges(dataset, config.validation, config.seed).sum() if config.validation else 0
    return len(dataset.x_train) - int(held)


def trainer(config: RunConfig, model: Graph, chosen: Recipe | None = None) -> Trainer:
    """Return a fresh trainer of a configuration in which everything is written out.

    Raises
    ------
    ConfigError
    """
    name = str(config.estimator)
    estimator = (chosen or recipe(name)).build(name, config.direction, config.directions)
    return Trainer(model, estimator=estimator, optimizer=_optimizer(config), seed=config.seed)


def _optimizer(config: RunConfig) -> Optimizer:
    kind = OPTIMIZERS[config.optimizer or "sgd"]
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    settings: dict[str, Any] = {"learning_rate": config.learning_rate, "decay": config.decay}
    for name in ("momentum", "nesterov", "weight_decay", "clip_norm", "radius"):
        value = getattr(config, name)
        # The optimiser's own defaults give way to any number, 0 among them.
        if value is None:
            continue
        if name not in known:
            raise ConfigError(f"{name} is {value!r}; the optimizer {config.optimizer!r} has none")
        settings[name] = value
    if "radius" in known and "radius" not in settings:
        raise ConfigError(f"radius is missing: the optimizer {config.optimizer!r} stays in a ball of it")
    return kind(**settings)


def written_model(config: RunConfig, classes: int) -> tuple[list[dict[str, Any]], str]:
    """Return the tables of a configuration's model, and what they stand in."""
    where = f"model {config.model}"
    if config.layers is not None:
        return list(config.layers), "config"
    if not config.model.endswith(".toml"):
        return tables(config.model, classes, config.widths), where
    if config.widths is not None:
        raise ConfigError(f"widths: model {shown(config.model)} has its own layers; mlp has widths to choose")
    file = read_toml(path_of(config.model, "model"), "model")
    for key in file:
        if key != "layers":
            raise ConfigError(f"{where}: unknown key {key!r} (choose from layers)")
    written = file.get("layers", [])
    if not isinstance(written, list) or not written:
        raise ConfigError(f"{where}: [[layers]] is missing")
    return written, where


def build(config: RunConfig, dataset: Dataset) -> tuple[RunConfig, Graph]:
    """Return the configuration with the model's layers written out, and the model."""
    written, where = written_model(config, dataset.classes)
    model = model_from(written, dataset.classes, where, dataset.input_shape, config.seed, config.device)
    resolved = [
        {**table, **({"units": dataset.classes} if table.get("units") == "classes" else {})}
        for table in written
    ]
    # Absolute, so that the run's configuration holds from every folder.
    paths = {
        name: os.path.abspath(expanded(path, name))
        for name, path in (("data", config.data), ("data_dir", config.data_dir))
        if path is not None and (name == "data_dir" or path not in NAMES)
    }
    return config.updated({"layers": tuple(resolved), "device": model.device, **paths}), model
