"""From a run's configuration to its model and trainer.

A setting that the user did not give gets the value that suits the model and the data, and this value is written into
the configuration, so that the run folder's config.toml holds everything that decided the run.
"""

import math
import os
from dataclasses import dataclass, fields, replace
from typing import Any

from fgnumba.datasets import NAMES, Dataset
from fgnumba.datasets.catalog import is_external
from fgnumba.datasets.split import judges
from fgnumba.datasets.tables import TableDataset
from fgnumba.datasets.texts import TextDataset
from fgnumba.device import resolve
from fgnumba.errors import ConfigError, DatasetError, shown
from fgnumba.estimators import Recipe, recipe
from fgnumba.estimators.blocks.layout import trains
from fgnumba.model.causality import check_causal
from fgnumba.model.graph import Graph
from fgnumba.optimizers import AUTO, OPTIMIZERS, MeasuredRate, Optimizer
from fgnumba.optimizers.schedules import Cosine, Exponential, Schedule, Warmup
from fgnumba.runs.augmentations import check_images, suits_photographs
from fgnumba.runs.configuration import DECADES, RunConfig
from fgnumba.runs.data import with_loss
from fgnumba.runs.presets import TEXT_MODELS, model_from, tables, written_out
from fgnumba.runs.text_settings import RISING, STREAMS, Suited, is_text, of_kind
from fgnumba.runs.toml_file import read_toml
from fgnumba.training.defaults import Defaults, default_learning_rate, defaults, step_limit
from fgnumba.training.trainer import Trainer
from fgnumba.validation.paths import expanded, path_of

TABLE_WIDTHS = (64,)
"""Default hidden layers of ``mlp`` on a table, whose examples are few.

On the diabetes data (442 examples, three seeds), R² of the test data is 0.46 to 0.51 with the best parameters restored,
and 0.11 to 0.19 with 1024, 1024 and the last ones."""

FALLS = {"cosine": 10.0, "cosine-to-zero": math.inf}
"""The schedules that fall along half a cosine, and by what each divides the learning rate of the first step at last."""


@dataclass(frozen=True)
class Assembled:
    """A run that is ready to begin.

    Parameters
    ----------
    config : RunConfig
        The configuration, in which every setting that decides the run is written out.
    model : Graph
        The model with its initial parameters.
    trainer : Trainer
        The trainer before its first step.
    per_epoch : int
        Number of steps in one pass over the training data, without the part that is held out for validation.
    """

    config: RunConfig
    model: Graph
    trainer: Trainer
    per_epoch: int


def assemble(config: RunConfig, dataset: Dataset, chosen: Recipe | None = None) -> Assembled:
    """Return the model and the trainer of a configuration on a data set.

    Parameters
    ----------
    config : RunConfig
        The settings that the user gave. The others are chosen here.
    dataset : Dataset
        The data set to train on; its shape and size decide the model and the length of the run.
    chosen : Recipe, optional
        The recipe of the estimator, where it is not one of ``fgnumba.estimators.RECIPES``, such as that of reverse
        mode. None (the default) looks up the recipe that `config` names.

    Returns
    -------
    Assembled
        The run, ready to begin.

    Raises
    ------
    ConfigError, ShapeError
        A setting is impossible, or the model does not fit the data.
    DatasetError
        The fraction of the training data to hold out, which was given or which patience requires, is less than one
        example.
    """
    suited = defaults(config.model)
    described = config.layers is not None
    config = with_loss(config, dataset)
    if chosen is None and config.estimator is not None:
        chosen = recipe(config.estimator)
    config, model = build(_suited_to_tables(config, _judged(config, dataset), dataset), dataset)
    text = of_kind(model.reads_windows) if isinstance(dataset, TextDataset) else None
    name = config.estimator or _estimator(config, dataset, text, model, described)
    chosen = chosen or recipe(name)
    directions = config.directions
    if directions is None and chosen.learning_rate is None and "directions" in chosen.takes:
        directions = suited.directions
    per_epoch = max(1, _examples(config, dataset) // config.batch_size)
    most = step_limit(chosen.steps or suited.steps, chosen.epochs, per_epoch)
    steps = config.steps or (per_epoch * config.epochs if config.epochs else most)
    kind = config.optimizer or chosen.optimizer
    momentum = config.momentum
    if momentum is None and kind == chosen.optimizer:
        momentum = chosen.momentum
    rate = None
    if kind != AUTO:
        rate = config.learning_rate or chosen.rates.get(config.model, chosen.learning_rate)
    if rate is None and kind != AUTO:
        count = directions or 1
        rate = default_learning_rate(model.parameter_count, count, momentum or 0.0, suited.rate)
    decay = DECADES / steps if config.decay is None else config.decay
    written: dict[str, Any] = {"estimator": name, "directions": directions, "steps": steps, "optimizer": kind}
    written |= {"learning_rate": rate, "decay": decay, "momentum": momentum}
    config = config.updated({**written, **_suited_to_images(config, dataset)})
    if text is not None:
        config = _suited_to_texts(config, text, steps)
    return Assembled(config, model, trainer(config, model, chosen), per_epoch)


def _estimator(
    config: RunConfig, dataset: Dataset, text: Suited | None, model: Graph, described: bool
) -> str:
    """Return the estimator that suits a model and its data; one that is `described` layer by layer has no name."""
    if text is not None:
        return _estimator_of_texts(text, model)
    # It was measured of perceptrons that tell classes apart, and of none that read a table.
    measured = dataset.classes is not None and not isinstance(dataset, TableDataset)
    if described or (config.model == RunConfig.model and not measured):
        return Defaults().estimator
    return defaults(config.model).estimator


def _estimator_of_texts(text: Suited, model: Graph) -> str:
    """Return the estimator that suits a model of texts: weight perturbation where a window's own cannot train it."""
    return text.estimator if text is STREAMS or trains(model) else "weight-perturbation"


def _suited_to_texts(config: RunConfig, text: Suited, steps: int) -> RunConfig:
    """Write out how the learning rate of a run on a text rises and falls, unless it was given."""
    # A run that has no warm-up by default has none to be written.
    rising = min(text.warmup, steps // RISING) if text.warmup else None
    return config.updated(
        {
            "schedule": text.schedule if config.schedule is None else config.schedule,
            "warmup": rising if config.warmup is None else config.warmup,
        }
    )


def _suited_to_images(config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """Return the augmentation and the schedule of a run, where not given those that suit the model."""
    suited, augment = defaults(config.model), config.augment
    check_images(augment, dataset)
    return {
        "augment": suits_photographs(suited.augment, dataset) if augment is None else augment,
        "schedule": suited.schedule if config.schedule is None else config.schedule,
    }


def _judged(config: RunConfig, dataset: Dataset) -> RunConfig:
    """Write out how much is held out: nothing where nobody asked for it and the data set is too small."""
    if isinstance(dataset, TextDataset) and config.patience is None:
        # Its learning rate is still high where a run would lose patience, and falls last.
        config = replace(config, patience=0)
    judged = config.judged()
    if config.validation is None and not config.patience and judged.validation:
        try:
            judges(dataset, judged.validation, config.seed)
        except DatasetError:
            return replace(config, validation=0.0).judged()
    return judged


def _suited_to_tables(given: RunConfig, judged: RunConfig, dataset: Dataset) -> RunConfig:
    """Write out what suits a table, unless it was given: few units, and the parameters of the best record."""
    table = isinstance(dataset, TableDataset)
    chosen: dict[str, Any] = {}
    if given.restore_best is None:
        chosen["restore_best"] = table and bool(judged.patience)
    if table and (given.model, given.widths, given.layers) == (RunConfig.model, None, None):
        chosen["widths"] = TABLE_WIDTHS
    return judged.updated(chosen)


def _examples(config: RunConfig, dataset: Dataset) -> int:
    """Return the number of training examples that are not held out."""
    held = judges(dataset, config.validation, config.seed).sum() if config.validation else 0
    return len(dataset.x_train) - int(held)


def trainer(config: RunConfig, model: Graph, chosen: Recipe | None = None) -> Trainer:
    """Return a new trainer.

    Parameters
    ----------
    config : RunConfig
        A configuration in which every setting is written out, as in :class:`Assembled`.
    model : Graph
        The model to train.
    chosen : Recipe, optional
        The recipe of the estimator. None (the default) looks up the one that `config` names.

    Raises
    ------
    ConfigError
        A setting is impossible, or the optimizer does not take it.
    """
    name = str(config.estimator)
    chosen = chosen or recipe(name)
    estimator = chosen.build(name, config.direction, config.directions, config.model)
    # The windows of a text follow one another, and so do the states of a model that reads them; not those that are
    # drawn at random.
    carry = estimator.carries_states and not model.reads_windows if is_text(vars(config)) else None
    return Trainer(
        model,
        loss=config.loss,
        estimator=estimator,
        optimizer=_optimizer(config, chosen.optimizer),
        seed=config.seed,
        carry_states=carry,
    )


def _optimizer(config: RunConfig, suited: str = "sgd") -> Optimizer:
    """Return the optimiser of a configuration; ``auto`` stands for `suited`, with a measured learning rate."""
    measures = config.optimizer == AUTO
    kind = OPTIMIZERS[suited if measures else config.optimizer or "sgd"]
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    settings: dict[str, Any] = {"learning_rate": config.learning_rate, "decay": config.decay}
    schedule = _schedule(config)
    if measures:
        settings = {"learning_rate": MeasuredRate(schedule or Exponential(1.0, config.decay or 0.0))}
    elif schedule is not None:
        settings = {"learning_rate": schedule}
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


def _schedule(config: RunConfig) -> Schedule | None:
    """Return the schedule of a run, or None if the optimiser's own, by its learning rate and decay, is that.

    Of a measured rate it is the share of the peak.
    """
    rate, decay = 1.0 if config.optimizer == AUTO else config.learning_rate, config.decay or 0.0
    falls = FALLS.get(str(config.schedule))
    if rate is None or (falls is None and not config.warmup):
        return None
    fall: Schedule = Exponential(rate, decay)
    if falls is not None and decay:
        fall = Cosine(rate, max(1, round(DECADES / decay)), rate / falls)
    return Warmup(fall, config.warmup) if config.warmup else fall


def written_model(config: RunConfig, classes: int) -> tuple[list[dict[str, Any]], str]:
    """Return the layers of a configuration's model as tables.

    Parameters
    ----------
    config : RunConfig
        The configuration: its ``layers``, or else its ``model`` and ``widths``.
    classes : int
        Number of classes, the units of a named model's last layer.

    Returns
    -------
    tables : list of dict
        One table for each layer, as in a TOML file.
    where : str
        Where the tables come from, for error messages, such as ``model cnn``.

    Raises
    ------
    ConfigError
        There is no such model, or its file is damaged.
    """
    where = f"model {config.model}"
    if config.layers is not None:
        return list(config.layers), "config"
    if not config.model.endswith(".toml"):
        return tables(config.model, classes, config.widths, config.context), where
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
    """Return the configuration with the model's layers, device, precision and paths written out, and the model.

    Parameters
    ----------
    config : RunConfig
        The settings; an estimator, optimizer and length need not be written out.
    dataset : Dataset
        The data set, which decides the input shape and the number of classes.
    """
    device = resolve(config.device, config.precision, config.tangent_precision)
    precision, tangent_precision = device.precisions
    written, where = written_model(config, dataset.outputs)
    # The layers of a run that is continued are as they were meant.
    model = model_from(
        written,
        dataset.outputs,
        where,
        dataset.input_shape,
        config.seed,
        device,
        saved=config.layers is not None,
    )
    if isinstance(dataset, TextDataset):
        _check_predicts(model, dataset, where)
    resolved = [{**table, **written_out(table, dataset.outputs)} for table in written]
    # The paths become absolute, so that the run's configuration is valid from every working folder.
    paths = {
        name: os.path.abspath(expanded(path, name))
        for name, path in (("data", config.data), ("data_dir", config.data_dir))
        if path is not None and (name == "data_dir" or not (path in NAMES or is_external(path)))
    }
    chosen = {
        "device": device.name,
        "precision": precision,
        "tangent_precision": None if tangent_precision == precision else tangent_precision,
    }
    return config.updated({"layers": tuple(resolved), **chosen, **paths}), model


def _check_predicts(model: Graph, dataset: TextDataset, where: str) -> None:
    """Raise ConfigError unless a model predicts a symbol at each position of a window from none that come later."""
    required = (dataset.context, dataset.outputs)
    if model.output_shape != required:
        raise ConfigError(
            f"{where}: the output's shape is {model.output_shape}; {required}, one number a symbol at each position of "
            f"a text, is required: --model {TEXT_MODELS[0]} has it"
        )
    if model.reads_windows:
        check_causal(where, model)
