"""From the arguments of ``Trainer.fit`` to a run: its length, its data, and how it is judged."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fgnumba.datasets.augmentation import Augment
from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import ConfigError, DatasetError, FgWarning, ShapeError, shown
from fgnumba.model.described import checked_classes
from fgnumba.model.stream import states_of
from fgnumba.storage.digests import digest_of
from fgnumba.training.batches import Batches
from fgnumba.training.callbacks import Callback, EarlyStopping
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.defaults import HELD_OUT, JUDGED_RECORDS, PATIENCE, Defaults, step_limit
from fgnumba.training.judge import Parts, Validation, early_stopping_of, parts_of
from fgnumba.training.loop import Training
from fgnumba.training.names import recipe_of
from fgnumba.training.scoring import Metric
from fgnumba.training.sources import Feed
from fgnumba.training.steps import Steps
from fgnumba.training.targets import names_of, positions_of
from fgnumba.validation import as_float
from fgnumba.validation.arrays import as_array

LOG = logging.getLogger("fgnumba")


@dataclass(frozen=True)
class RunSetting:
    """The arguments of ``Trainer.fit`` beside the data, each checked; see there."""

    epochs: int | None
    steps: int | None
    batch_size: int
    evaluate_every: int | None
    validation: Validation
    metrics: Sequence[Metric]
    sample_weight: Any
    augment: Augment | None
    callbacks: tuple[Callback, ...]
    checkpoints: Checkpoints | None
    resume: bool
    stop_above: float | None

    @property
    def open_ended(self) -> bool:
        """Whether the length of the run is not given."""
        return self.epochs is None and self.steps is None


def training_of(trainer: Steps, data: Dataset | Batches, setting: RunSetting) -> Training:
    """Return the run of a trainer on data.

    Parameters
    ----------
    trainer : Steps
        The trainer.
    data : Dataset or Batches
        What it trains on, which fits its model and its loss.
    setting : RunSetting
        The other arguments of ``Trainer.fit``.

    Raises
    ------
    ConfigError, ShapeError, DtypeError, DatasetError
        An argument is impossible, two contradict each other, or the validation data do not fit.
    """
    if setting.epochs is not None and setting.steps is not None:
        raise ConfigError("fit: epochs and steps are both given; give one of them, or neither")
    if setting.resume and setting.checkpoints is None:
        raise ConfigError("resume: checkpoints is None; the folder to resume from is required")
    if isinstance(data, Batches):
        parts, setting, feed = _of_batches(trainer, data, setting)
    else:
        parts, setting, feed = _of_dataset(trainer, data, setting)
    # Asked before the length: a run without it is ended by early stopping, which needs validation data.
    early_stopping = early_stopping_of(setting.callbacks, setting.validation)
    per_epoch = feed.per_epoch
    if setting.steps is not None:
        steps = setting.steps
    elif setting.epochs is not None and per_epoch is not None:
        steps = setting.epochs * per_epoch
    elif per_epoch is not None and setting.epochs is None:
        recipe = recipe_of(trainer.estimator)
        most = (recipe and recipe.steps) or Defaults().steps
        steps = step_limit(most, recipe.epochs if recipe else None, per_epoch)
    else:
        raise ConfigError("fit: the iterable does not tell how many batches it has; steps is required")
    every = setting.evaluate_every or (
        -(-steps // JUDGED_RECORDS) if setting.open_ended else per_epoch or steps
    )
    _name_classes(trainer, parts.whole)
    return Training(
        trainer,
        parts,
        early_stopping=early_stopping,
        metrics=setting.metrics,
        feed=feed,
        steps=steps,
        whole=setting.epochs is not None,
        batch_size=feed.batch_size,
        every=every,
        callbacks=setting.callbacks,
        checkpoints=setting.checkpoints,
        resume=setting.resume,
        stop_above=setting.stop_above,
    )


def _of_dataset(trainer: Steps, dataset: Dataset, setting: RunSetting) -> tuple[Parts, RunSetting, Feed]:
    """Return the parts of a data set, the setting with validation and callbacks decided, and the run's batches."""
    if dataset.streamed:
        for name in ("sample_weight", "augment"):
            if getattr(setting, name) is not None:
                raise ConfigError(f"{name}: {dataset.name} is a text, whose symbols are taken as they are")
    given = early_stopping_of(
        setting.callbacks, HELD_OUT if setting.validation is None else setting.validation
    )
    parts = None
    if setting.open_ended and setting.validation is None:
        try:
            parts = parts_of(trainer.model, trainer.loss, dataset, HELD_OUT, trainer.seed)
        except DatasetError:
            LOG.info("%s: too few examples to hold some out; the run takes all its steps", dataset.name)
        else:
            setting = replace(setting, validation=HELD_OUT)
    if parts is None:
        parts = parts_of(trainer.model, trainer.loss, dataset, setting.validation, trainer.seed)
    if setting.open_ended and given is None and setting.validation is not None:
        setting = replace(setting, callbacks=(*setting.callbacks, EarlyStopping(PATIENCE)))
    batch_size = min(setting.batch_size, len(parts.training.x_train))
    follow = dataset.streamed and not trainer.model.reads_windows
    if trainer.carry_states and not follow and states_of(trainer.model, 1):
        warnings.warn(
            f"{dataset.name}: states are carried from each batch to the next, whose sequences are others; make the "
            "trainer with carry_states=False unless that is meant",
            FgWarning,
            stacklevel=3,
        )
    training = (
        parts.training if setting.sample_weight is None else _weighted(trainer, parts, setting.sample_weight)
    )
    weights = None if training is parts.training else digest_of([training.y_train])
    feed = Feed(trainer.model, training, batch_size, trainer.seed, augment=setting.augment, weights=weights)
    return parts, setting, feed


def _weighted(trainer: Steps, parts: Parts, sample_weight: Any) -> Dataset:
    """Return the training data with the weights of the examples packed into the targets."""
    weights, n = as_array("sample_weight", sample_weight), len(parts.whole.x_train)
    positions = positions_of(trainer.model)
    shape = (n,) if positions is None else (n, positions)
    if weights.shape != shape:
        each = "example" if positions is None else "position"
        raise ShapeError(
            f"sample_weight has shape {weights.shape}; {shape}, one for each {each}, is required"
        )
    if parts.held is not None:
        weights = weights[~parts.held]
    training = parts.training
    targets = trainer.loss.with_example_weights().pack(training.y_train, weights)
    return Dataset(training.name, training.x_train, targets)


def _of_batches(trainer: Steps, batches: Batches, setting: RunSetting) -> tuple[Parts, RunSetting, Feed]:
    """Return the same for an iterable, whose first batch stands for the data."""
    if setting.checkpoints is not None:
        raise ConfigError(
            "checkpoints: a run on an iterable cannot be resumed, since its batches cannot be had again; arrays or a "
            "Dataset are required"
        )
    if setting.open_ended:
        raise ConfigError("fit: a run on an iterable needs epochs or steps")
    if setting.sample_weight is not None:
        raise ConfigError(
            "sample_weight: an iterable has no examples of known number; arrays or a Dataset are required"
        )
    if as_float(setting.validation) is not None:
        raise ConfigError(
            f"validation is {shown(setting.validation)}; no fraction of an iterable can be held out: a pair (x, y) is "
            "required"
        )
    dataset = batches.dataset
    parts = parts_of(trainer.model, trainer.loss, dataset, setting.validation, trainer.seed)
    size = len(dataset.x_train)
    return parts, setting, Feed(trainer.model, dataset, size, trainer.seed, batches, setting.augment)


def _name_classes(trainer: Steps, dataset: Dataset) -> None:
    """Let the model know what the classes of its data are called."""
    model = trainer.model
    if dataset.labels is None:
        return
    known = names_of(model)
    names = checked_classes(dataset.labels)
    if known is not None and known != names:
        raise ConfigError(
            f"{dataset.name}: the classes are {shown(list(names))}; the model was trained on "
            f"{shown(list(known))}"
        )
    if known is None and trainer.steps_done:
        raise ConfigError(
            f"{dataset.name}: the classes are {shown(list(names))}; the model was trained on class numbers: "
            "set model.classes to the names of the classes, in the order of the outputs"
        )
    model.classes = names
