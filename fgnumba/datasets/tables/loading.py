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
from fgnumba.datasets.tables.targets import (
    CLASSIFICATION,
    LABELS,
    Target,
    chosen,
    class_target,
    label_target,
    real_target,
)
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
    path: str | os.PathLike[str],
    target: str | Sequence[str],
    task: str | None = None,
    drop: str | Sequence[str] | None = None,
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
        ``"classification"``, ``"regression"``, or ``"labels"``, where each target column has two values. None (the
        default): the target decides.
    drop : str or sequence of str, optional
        The name of a column that is no feature, or several. None (the default): none.

    Returns
    -------
    TableDataset
        The training part, the test part and the rules.

    Raises
    ------
    ConfigError
        If `target` or `drop` is no name, a column is in both, or `task` is neither.
    DatasetError
        If the file cannot be used; the message says why.

    Warns
    -----
    FgWarning
        For each column that is left out or has missing cells, and for what is doubtful about the file.
    """
    names = _names("target", target)
    left_out = () if drop is None else _names("drop", drop)
    if both := [name for name in left_out if name in names]:
        raise ConfigError(f"drop is {shown(drop)}, and the column {shown(both[0])} is a target")
    frame = read_table(Path(path))
    for name in left_out:
        frame.column(name)
    for line in frame.notes:
        warn(line)
    if frame.rows < FEWEST_ROWS:
        raise DatasetError(f"{path}: {frame.rows} rows; at least {FEWEST_ROWS} are required")
    kind, why = chosen(frame, names, task)
    notes = [f"{frame.where}: {why}"]
    # Each is learned from the training rows; which rows these are depends on the classes of all.
    classes = class_target(frame, names[0]) if kind == CLASSIFICATION else None
    labels = label_target(frame, names) if kind == LABELS else None
    if classes is not None:
        strata = classes.encode(frame)
    elif labels is not None and len(names) == 1:
        strata = labels.encode(frame)[:, 0].astype(np.int64)
    else:
        strata = np.zeros(frame.rows, np.int64)
    test = held_out(strata, TEST_SHARE, SPLIT_SEED)
    training = np.flatnonzero(~test)
    if labels is not None:
        pairs = zip(labels.columns, labels.names, strict=True)
        notes += [
            f"{frame.where}: {shown(name)} is 1 for {shown(yes)}, 0 for {shown(no)}"
            for name, (no, yes) in pairs
        ]
    known: Target = classes or labels or real_target(frame, names, training)
    rules = TableRules(_features(frame, (*names, *left_out), training), known)
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


def _features(frame: Frame, apart: tuple[str, ...], training: np.ndarray) -> tuple[Rule, ...]:
    names = [name for name in frame.columns if name not in apart]
    rules, notes = fitted(frame, names, training)
    for line in notes:
        warn(f"{frame.where}: {line}")
    if not rules:
        raise DatasetError(
            f"{frame.where}: no column but the target tells anything; {listed(names) or 'there is none'}"
        )
    return tuple(rules)


def _names(what: str, target: str | Sequence[str]) -> tuple[str, ...]:
    names = (target,) if isinstance(target, str) else several(target)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{what} is {shown(target)}; the name of a column, or several, is required")
    if len(set(names)) < len(names):
        raise ConfigError(f"{what} is {shown(target)}; each column once is required")
    return tuple(names)
