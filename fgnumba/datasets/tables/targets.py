"""What a model shall predict from a table: the class that a column names, or the numbers or labels of columns.

classes     the different values of the column, sorted, are the classes 0, 1, …
numbers     (v − m) / s, with the mean m and the standard deviation s of the training rows, so that a model learns
at the same rate whatever the unit is. `undo` returns the column's own unit.
labels      1 where a column has the second of its two values, sorted, and 0 where it has the first.
"""

from dataclasses import dataclass

import numpy as np

from fgnumba.datasets.dataset import Labels
from fgnumba.datasets.labels import MAX_CHARACTERS, MAX_CLASSES
from fgnumba.datasets.tables.frame import Column, Frame, Numbers, Texts, listed
from fgnumba.errors import ConfigError, DatasetError, shown

FEW_CLASSES = 20
"""Most different whole numbers of a target that are taken for classes where nobody says what they are."""
CLASSIFICATION, REGRESSION, LABELS = "classification", "regression", "labels"


@dataclass(frozen=True)
class ClassTarget:
    """A target whose values are classes.

    Parameters
    ----------
    column : str
        The column's name.
    names : tuple of str, int or float
        The value of each class.
    """

    column: str
    names: Labels

    @property
    def columns(self) -> tuple[str, ...]:
        """The target's columns."""
        return (self.column,)

    @property
    def texts(self) -> dict[str, bool]:
        """Whether the values of the column are text."""
        return {self.column: isinstance(self.names[0], str)}

    @property
    def outputs(self) -> int:
        """The number of outputs of a model."""
        return len(self.names)

    def encode(self, frame: Frame) -> np.ndarray:
        """Return the classes (n,) int64 of a table's rows, or raise DatasetError where a value is none of them."""
        return _numbered(frame, self.column, self.names)


@dataclass(frozen=True)
class RealTarget:
    """A target of real numbers.

    Parameters
    ----------
    columns : tuple of str
        The columns' names.
    mean, deviation : tuple of float
        Those of the training rows, for each column; each deviation is above 0.
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @property
    def texts(self) -> dict[str, bool]:
        """Whether the values of each column are text: none is."""
        return dict.fromkeys(self.columns, False)

    @property
    def outputs(self) -> int:
        """The number of outputs of a model."""
        return len(self.columns)

    def encode(self, frame: Frame) -> np.ndarray:
        """Return the standardised targets (n, N) float32 of a table's rows."""
        columns = [present(frame, name) for name in self.columns]
        values = np.stack([column.values for column in columns if isinstance(column, Numbers)], axis=1)
        with np.errstate(over="ignore"):
            scaled = ((values - self.mean) / self.deviation).astype(np.float32)
        if not np.isfinite(scaled).all():
            row = int(np.argmin(np.isfinite(scaled).all(axis=1))) + 1
            raise DatasetError(
                f"{frame.where}: row {row}: a target is too far from those that the rules were made from"
            )
        return np.ascontiguousarray(scaled)

    def undo(self, outputs: np.ndarray) -> np.ndarray:
        """Return a model's outputs (n, N) in the columns' own units, float64."""
        result: np.ndarray = outputs.astype(np.float64) * self.deviation + self.mean
        return result


@dataclass(frozen=True)
class LabelTarget:
    """A target of labels that a row has or has not, any number of them: one column of two values for each.

    Parameters
    ----------
    columns : tuple of str
        The columns' names.
    names : tuple of tuple of str, int or float
        The two values of each column: what a row without the label has, and what a row with it has.
    """

    columns: tuple[str, ...]
    names: tuple[Labels, ...]

    @property
    def texts(self) -> dict[str, bool]:
        """Whether the values of each column are text."""
        return {
            name: isinstance(values[0], str) for name, values in zip(self.columns, self.names, strict=True)
        }

    @property
    def outputs(self) -> int:
        """The number of outputs of a model."""
        return len(self.columns)

    def encode(self, frame: Frame) -> np.ndarray:
        """Return 1 for each label that a row has and 0 for the others, (n, N) float32."""
        pairs = zip(self.columns, self.names, strict=True)
        labels = np.stack([_numbered(frame, name, values) for name, values in pairs], axis=1)
        return np.ascontiguousarray(labels, np.float32)

    def undo(self, outputs: np.ndarray) -> np.ndarray:
        """Return the values that a model's outputs, logits (n, N), mean in the columns, (n, N) of text or numbers."""
        columns = [
            np.array(values, object)[(column > 0).astype(np.int64)]
            for column, values in zip(outputs.T, self.names, strict=True)
        ]
        result: np.ndarray = np.stack(columns, axis=1)
        return result


Target = ClassTarget | RealTarget | LabelTarget


def _numbered(frame: Frame, name: str, names: Labels) -> np.ndarray:
    """Return the place in `names` of each row's value, (n,) int64, or raise DatasetError where it has none."""
    column = present(frame, name)
    values = np.array(column.names, object)[column.codes] if isinstance(column, Texts) else column.values
    number = {value: index for index, value in enumerate(names)}
    classes = np.array([number.get(value, -1) for value in values.tolist()], np.int64)
    if (classes < 0).any():
        row = int(np.argmax(classes < 0))
        raise DatasetError(
            f"{frame.where}: row {row + 1}: {shown(values.tolist()[row])} in column {shown(name)} is none "
            f"of the classes, {listed(list(map(str, names)))}"
        )
    return classes


def chosen(frame: Frame, names: tuple[str, ...], task: str | None) -> tuple[str, str]:
    """Return whether targets are classes or numbers, and a line that says why.

    Parameters
    ----------
    frame : Frame
        The table.
    names : tuple of str
        The target's columns.
    task : str, optional
        ``"classification"``, ``"regression"`` or ``"labels"``. None: the target decides. Text, flags and at most
        `FEW_CLASSES` different whole numbers are classes, but not if they are more than half as many as the rows.

    Raises
    ------
    ConfigError, DatasetError
        If there is no such column, or if it cannot be what `task` says.
    """
    if task not in (None, CLASSIFICATION, REGRESSION, LABELS):
        raise ConfigError(
            f"task is {shown(task)}; {CLASSIFICATION!r}, {REGRESSION!r}, {LABELS!r} or None is required"
        )
    if task == LABELS:
        return LABELS, f"the values of {listed(list(names))} are labels, of which a row may have any number"
    columns = [present(frame, name) for name in names]
    text = [name for name, column in zip(names, columns, strict=True) if isinstance(column, Texts)]
    if len(names) > 1:
        if text or task == CLASSIFICATION:
            what = f"target {shown(text[0])} holds text" if text else "there are several targets"
            raise DatasetError(
                f"{frame.where}: {what}; several targets must be numbers, and classes one column"
            )
        return REGRESSION, f"the targets {listed(list(names))} are numbers: regression"
    name, column = names[0], columns[0]
    if isinstance(column, Texts):
        if task == REGRESSION:
            raise DatasetError(
                f"{frame.where}: the target {shown(name)} holds text, such as {shown(column.names[0])}; regression "
                "needs numbers"
            )
        return CLASSIFICATION, f"the target {shown(name)} holds text: classification"
    values = np.unique(column.values)
    few = column.whole and len(values) <= FEW_CLASSES and 2 * len(values) <= frame.rows
    if task == CLASSIFICATION or (task is None and few):
        how = f"has {len(values):,} different {'whole ' if column.whole else ''}numbers"
        return CLASSIFICATION, f"the target {shown(name)} {how}: classification"
    return REGRESSION, f"the target {shown(name)} holds numbers: regression"


def present(frame: Frame, name: str) -> Column:
    """Return a target's column, or raise DatasetError if it is not there or a cell is missing."""
    column = frame.column(name)
    missing = (
        column.missing if not (isinstance(column, Texts) and column.many) else np.zeros(frame.rows, bool)
    )
    if missing.any():
        raise DatasetError(
            f"{frame.where}: the target {shown(name)} is missing in {missing.sum():,} of {frame.rows:,} rows, first in "
            f"row {int(np.argmax(missing)) + 1}; take these rows out"
        )
    return column


def class_target(frame: Frame, name: str) -> ClassTarget:
    """Return the classes of a column, or raise DatasetError if they are too few or too many."""
    column = present(frame, name)
    if isinstance(column, Texts):
        if column.many:
            raise DatasetError(
                f"{frame.where}: the target {shown(name)} has more than {len(column.names):,} different texts; at most "
                f"{MAX_CLASSES:,} classes are possible"
            )
        names: Labels = tuple(sorted(column.names))
    else:
        values = np.unique(column.values).tolist()
        names = tuple(int(value) if column.whole else value for value in values)
    if len(names) < 2:
        raise DatasetError(
            f"{frame.where}: the target {shown(name)} is {shown(names[0])} in every row; two classes are required"
        )
    if len(names) > MAX_CLASSES or sum(len(str(value)) for value in names) > MAX_CHARACTERS:
        raise DatasetError(
            f"{frame.where}: the target {shown(name)} has {len(names):,} different values; at most {MAX_CLASSES:,} "
            f"classes, whose names have at most {MAX_CHARACTERS:,} characters together, are possible"
        )
    return ClassTarget(name, names)


def label_target(frame: Frame, names: tuple[str, ...]) -> LabelTarget:
    """Return the two values of each column, or raise DatasetError if one has another number of them."""
    targets = [class_target(frame, name) for name in names]
    for target in targets:
        if len(target.names) != 2:
            raise DatasetError(
                f"{frame.where}: the target {shown(target.column)} has {len(target.names)} different values, "
                f"{listed(list(map(str, target.names)), 3)}; a label has two, such as 0 and 1"
            )
    return LabelTarget(names, tuple(target.names for target in targets))


def real_target(frame: Frame, names: tuple[str, ...], training: np.ndarray) -> RealTarget:
    """Return mean and deviation of columns in the training rows, or raise DatasetError if one is constant."""
    means, deviations = [], []
    for name in names:
        column = present(frame, name)
        assert isinstance(column, Numbers)
        values = column.values[training]
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = float(values.mean()), float(values.std())
        if not np.isfinite([mean, deviation]).all():
            raise DatasetError(f"{frame.where}: the target {shown(name)} is too large; its squares overflow")
        if deviation == 0:
            raise DatasetError(
                f"{frame.where}: the target {shown(name)} is {values[0]:g} in every training row; no model is needed"
            )
        means.append(mean)
        deviations.append(deviation)
    return RealTarget(names, tuple(means), tuple(deviations))
