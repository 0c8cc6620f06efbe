"""From a table to a data set: a part of its rows is the test data, and the rules are learned from the others."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.labels import warn
from fgnumba.datasets.split import held_out
from fgnumba.datasets.tables.features import Rule, fitted
from fgnumba.datasets.tables.frame import Frame, listed
from fgnumba.datasets.tables.reading import read_table
from fgnumba.datasets.tables.rules import TableRules
from fgnumba.datasets.tables.targets import CLASSIFICATION, Target, chosen, class_target, real_target
from fgnumba.errors import ConfigError, DatasetError, shown
from fgnumba.validation import several

TEST_SHARE, SPLIT_SEED = 0.2, 0
FEWEST_ROWS = 5


@dataclass(frozen=True, eq=False)
class TableDataset(Dataset):
    """A data set that was made from a table, with the rules that made it.

    Parameters
    ----------
    name, x_train, y_train, x_test, y_test, classes, labels
        As for :class:`Dataset`. An example is a row of the table; real targets are standardised.
    rules : TableRules
        What was done to each column.
    notes : tuple of str
        What a reader should know: what the target was taken for, how the rows were split, which columns were left out.
    """

    rules: TableRules = field(kw_only=True, repr=False)
    notes: tuple[str, ...] = field(kw_only=True, default=(), repr=False)


def load_table(
    path: str | os.PathLike[str], target: str | Sequence[str], task: str | None = None
) -> TableDataset:
    """Load a table as a data set.

    A fifth of the rows, stratified by class, is the test part: always the same rows of a file. Everything that is
    learned from the data (means, deviations, medians, categories) is learned from the others.

    Parameters
    ----------
    path : str or path
        The file; see :func:`fgnumba.datasets.load`.
    target : str or sequence of str
        The name of the column to predict, or those of several columns of numbers.
    task : str, optional
        ``"classification"`` or ``"regression"``. None (the default): the target decides.

    Returns
    -------
    TableDataset
        The training part, the test part and the rules.

    Raises
    ------
    ConfigError
        If `target` is no name, or `task` is neither.
    DatasetError
        If the file cannot be used; the message says why.

    Warns
    -----
    FgWarning
        For each column that is left out or has missing cells, and for what is doubtful about the file.
    """
    names = _names(target)
    frame = read_table(Path(path))
    for line in frame.notes:
        warn(line)
    if frame.rows < FEWEST_ROWS:
        raise DatasetError(f"{path}: {frame.rows} rows; at least {FEWEST_ROWS} are required")
    kind, why = chosen(frame, names, task)
    notes = [f"{frame.where}: {why}"]
    # Each is learned from the training rows; which rows these are depends on the classes of all.
    classes = class_target(frame, names[0]) if kind == CLASSIFICATION else None
    strata = classes.encode(frame) if classes is not None else np.zeros(frame.rows, np.int64)
    test = held_out(strata, TEST_SHARE, SPLIT_SEED)
    training = np.flatnonzero(~test)
    known: Target = classes if classes is not None else real_target(frame, names, training)
    rules = TableRules(_features(frame, names, training), known)
    notes.append(
        f"{frame.where}: {test.sum():,} of {frame.rows:,} rows are the test data, "
        f"{'a fifth of each class' if classes is not None else 'a fifth'}, drawn with seed {SPLIT_SEED}"
    )
    x, y = rules.features_of(frame), known.encode(frame)
    return TableDataset(
        Path(path).name,
        *(x[~test], y[~test], x[test], y[test]),
        classes=None if classes is None else len(classes.names),
        labels=None if classes is None else classes.names,
        rules=rules,
        notes=tuple(notes),
    )


def _features(frame: Frame, targets: tuple[str, ...], training: np.ndarray) -> tuple[Rule, ...]:
    names = [name for name in frame.columns if name not in targets]
    rules, notes = fitted(frame, names, training)
    for line in notes:
        warn(f"{frame.where}: {line}")
    if not rules:
        raise DatasetError(
            f"{frame.where}: no column but the target tells anything; {listed(names) or 'there is none'}"
        )
    return tuple(rules)


def _names(target: str | Sequence[str]) -> tuple[str, ...]:
    names = (target,) if isinstance(target, str) else several(target)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"target is {shown(target)}; the name of a column, or several, is required")
    if len(set(names)) < len(names):
        raise ConfigError(f"target is {shown(target)}; each column once is required")
    return tuple(names)
