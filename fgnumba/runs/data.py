"""The data of a run: loaded as its configuration says, and the rules of a table kept in its folder."""

import contextlib
import warnings
from dataclasses import replace as replaced
from pathlib import Path

import numpy as np

from fgnumba.datasets import Dataset, load
from fgnumba.datasets.labels import recoded
from fgnumba.datasets.npz import load_npz
from fgnumba.datasets.tables import TableDataset, TableRules
from fgnumba.datasets.tables.targets import ClassTarget, LabelTarget, RealTarget
from fgnumba.errors import ConfigError, DatasetError, RunError
from fgnumba.layers.losses import BinaryCrossEntropy
from fgnumba.layers.probabilities import sigmoid, softmax
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.run_folder import RULES, write_beside
from fgnumba.runs.texts import text_of
from fgnumba.training.names import loss_of
from fgnumba.validation.paths import path_of


def load_data(config: RunConfig, digest: str | None = None) -> Dataset:
    """Return the data set of a configuration.

    Parameters
    ----------
    config : RunConfig
        The configuration.
    digest : str, optional
        The SHA-256 of the data that a run trained on. If an ``.npz`` file has it when it is read as earlier versions
        did, without scaling bytes and without encoding labels, the run is one of theirs, and it is read so. None (the
        default): it is a new run.

    Raises
    ------
    DatasetError
        The data cannot be loaded.
    ConfigError
        The loss or the target is impossible.
    """
    if digest is not None and config.target is None and config.data.lower().endswith(".npz"):
        with contextlib.suppress(DatasetError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = load_npz(path_of(config.data, "data", DatasetError), as_stored=True)
            if before.digest == digest:
                return before
    text = text_of(config)
    if text is not None:
        return text
    return load(
        config.data, data_dir=config.data_dir, target=config.target, task=_task(config), drop=config.drop
    )


def for_evaluation(
    config: RunConfig,
    folder: Path,
    labels: tuple[str | int | float, ...] | None,
    digest: str | None,
    data: str | None,
    data_dir: str | None,
) -> Dataset:
    """Return a data set whose test part a trained model is to be evaluated on.

    Parameters
    ----------
    config : RunConfig
        The run's configuration.
    folder : Path
        The run folder.
    labels : tuple of str, int or float, optional
        What the run's classes are called in its data. None: 0, 1, ….
    digest : str, optional
        The SHA-256 of the data that it trained on, if the folder says so.
    data, data_dir : str, optional
        Another data set, as ``fgtrain evaluate`` takes it. All rows of a table are its test part. None: the run's own.

    Raises
    ------
    DatasetError, ConfigError
        The data cannot be loaded, or have classes that the run does not know.
    RunError
        The run's rules of its table are damaged.
    """
    if data is None:
        moved = config if data_dir is None else config.updated({"data_dir": data_dir})
        return recoded(load_data(moved, digest), labels)
    rules = read_rules(folder)
    if rules is not None:
        x, y = rules.labelled(data)
        names = rules.target.names if isinstance(rules.target, ClassTarget) else None
        # A data set has training examples; all rows of the other file are for testing.
        return Dataset(Path(data).name, x, y, x, y, None if names is None else len(names), names)
    return recoded(load(data, data_dir=data_dir, task=_task(config)), labels)


def with_loss(config: RunConfig, dataset: Dataset) -> RunConfig:
    """Return a configuration whose loss suits the targets: mean squared error where they are real numbers.

    Parameters
    ----------
    config : RunConfig
        The configuration.
    dataset : Dataset
        The data set. Classes take the trainer's own default, which is not written out.

    Raises
    ------
    ConfigError
        The loss of the configuration does not take such targets.
    """
    if config.loss is None:
        return replaced(config, loss="mse") if dataset.classes is None else config
    if loss_of(config.loss).takes_labels != (dataset.classes is not None):
        have, required = (
            ("real numbers", "mse, huber or bce") if dataset.classes is None else ("classes", "cross-entropy")
        )
        raise ConfigError(
            f"loss is {config.loss!r}, and the targets of {dataset.name} are {have}; {required} is required"
        )
    return config


def write_rules(folder: Path, dataset: Dataset) -> None:
    """Write the rules of a table into a run folder; of other data sets there are none.

    Parameters
    ----------
    folder : Path
        The run folder.
    dataset : Dataset
        The run's data set.

    Raises
    ------
    RunError
        The file cannot be written.
    """
    if isinstance(dataset, TableDataset):
        write_beside(folder / RULES, dataset.rules.to_json())


def read_rules(folder: Path) -> TableRules | None:
    """Return the rules in a run folder, or None if the run's data are no table.

    Parameters
    ----------
    folder : Path
        The run folder.

    Raises
    ------
    RunError
        The file is damaged.
    """
    path = path_of(folder, "run") / RULES
    if not path.exists():
        return None
    try:
        return TableRules.from_json(path)
    except DatasetError as error:
        raise RunError(str(error)) from None


def table_values(rules: TableRules, outputs: np.ndarray) -> np.ndarray:
    """Return probabilities of classes or labels, or targets in their own units, of a model's outputs for a table.

    Parameters
    ----------
    rules : TableRules
        The rules of the table.
    outputs : ndarray
        (n, N) float32.

    Returns
    -------
    ndarray
        (n, N) float32, or targets as float64.
    """
    if isinstance(rules.target, RealTarget):
        values: np.ndarray = rules.decode(outputs)
        return values
    return sigmoid(outputs) if isinstance(rules.target, LabelTarget) else softmax(outputs)


def _task(config: RunConfig) -> str | None:
    if config.loss is None:
        return None
    loss = loss_of(config.loss)
    if isinstance(loss, BinaryCrossEntropy):
        return "labels"
    return "classification" if loss.takes_labels else "regression"
