"""What is done to the columns of a table, so that a model can read them: one rule for each column.

numbers     (v − m) / s, with the mean m and the standard deviation s of the training rows; a missing v becomes the
median of the training rows. If one was missing there, another feature is 1 where v is missing, else 0.
text        one feature for each text c of the training rows, 1 where v = c, else 0. A text that the training rows
do not have is all zeros. If one was missing there, another feature is 1 where v is missing.
"""

import re
from dataclasses import dataclass

import numpy as np

from fgnumba.datasets.tables.frame import Column, Frame, Numbers, Texts, listed
from fgnumba.errors import DatasetError, shown
from fgnumba.storage.digests import digest_of

MAX_CATEGORIES, FEW_CATEGORIES = 256, 20
"""A column of more than `MAX_CATEGORIES` different texts is refused; and one of more than `FEW_CATEGORIES`, if they are
more than half as many as the rows."""
_DATE = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}(?:[T ]\d{1,2}:\d{2}.*)?|\d{1,4}/\d{1,2}/\d{1,4}(?: .*)?|\d{1,2}\.\d{1,2}\.\d{4}(?: .*)?"
    r"|\d{1,2}:\d{2}(?::\d{2}.*)?"
)


@dataclass(frozen=True)
class NumberRule:
    """The rule of a column of numbers.

    Parameters
    ----------
    column : str
        The column's name.
    median, mean, deviation : float
        Those of the training rows: the median of the numbers that are there, and mean and standard deviation after the
        missing ones were replaced by it. `deviation` is above 0.
    missing : bool
        Whether a number was missing there, so that there is a second feature.
    """

    column: str
    median: float
    mean: float
    deviation: float
    missing: bool

    @property
    def width(self) -> int:
        """The number of features."""
        return 1 + self.missing

    def write(self, column: Column, out: np.ndarray) -> list[str]:
        """Write the features of a column, (n, `width`), and return what should be said of it."""
        assert isinstance(column, Numbers)
        missing = column.missing
        with np.errstate(over="ignore", invalid="ignore"):
            out[:, 0] = (np.where(missing, self.median, column.values) - self.mean) / self.deviation
        if self.missing:
            out[:, 1] = missing
        elif missing.any():
            return [
                f"{missing.sum():,} numbers are missing in column {shown(self.column)}, of which none was missing "
                f"in training; they become the median, {self.median:g}"
            ]
        return []


@dataclass(frozen=True)
class CategoryRule:
    """The rule of a column of text.

    Parameters
    ----------
    column : str
        The column's name.
    categories : tuple of str
        The different texts of the training rows, sorted: at least one.
    missing : bool
        Whether one was missing there, so that there is another feature.
    """

    column: str
    categories: tuple[str, ...]
    missing: bool

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.categories) + self.missing

    def write(self, column: Column, out: np.ndarray) -> list[str]:
        """Write the features of a column, (n, `width`), and return what should be said of it."""
        assert isinstance(column, Texts)
        out[...] = 0
        number = {name: index for index, name in enumerate(self.categories)}
        # The last entry is for missing cells, whose code is -1.
        place = np.array([*(number.get(name, -1) for name in column.names), -1], np.int64)[column.codes]
        rows = np.flatnonzero(place >= 0)
        out[rows, place[rows]] = 1
        missing = column.missing if not column.many else np.zeros(len(column.codes), bool)
        if self.missing:
            out[:, -1] = missing
        unseen = (place < 0) & ~missing
        said = []
        if unseen.any():
            new = sorted(
                {column.names[code] for code in np.unique(column.codes[unseen]).tolist() if code >= 0}
            )
            said.append(
                f"{unseen.sum():,} rows have a text in column {shown(self.column)} that the training rows do "
                f"not have, {listed(new, 5)}; all its features are 0 there"
            )
        if missing.any() and not self.missing:
            said.append(
                f"{missing.sum():,} texts are missing in column {shown(self.column)}, of which none was missing "
                "in training; all its features are 0 there"
            )
        return said


Rule = NumberRule | CategoryRule


def fitted(frame: Frame, names: list[str], training: np.ndarray) -> tuple[list[Rule], list[str]]:
    """Return the rules of columns, and a line for each column that is left out or has missing cells.

    Parameters
    ----------
    frame : Frame
        The table.
    names : list of str
        The columns that are no targets.
    training : ndarray, (m,) int64
        The rows to learn the rules from.

    Raises
    ------
    DatasetError
        If a column of text has too many different texts or holds dates, or a column's numbers are too large.
    """
    rules: list[Rule] = []
    out: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    for name in names:
        column = frame.columns[name]
        why = _useless(name, column, column.part(training))
        if why is None:
            rule = _rule(frame.where, column.part(training), name, len(training))
            content = np.empty((len(training), rule.width), np.float32)
            rule.write(column.part(training), content)
            twin = seen.setdefault(digest_of([content]), name)
            why = None if twin == name else f"tells the same as {shown(twin)}"
        if why is None:
            rules.append(rule)
        else:
            out.setdefault(why, []).append(name)
    notes = [f"left out: {listed(left)}, which {why}" for why, left in out.items()]
    return rules, [*notes, *_missing(frame, rules)]


def _missing(frame: Frame, rules: list[Rule]) -> list[str]:
    """Return what is done to missing cells, as one line, or nothing where none is missing."""
    columns = [rule.column for rule in rules if rule.missing]
    if not columns:
        return []
    cells = sum(int(frame.columns[name].missing.sum()) for name in columns)
    return [
        f"{cells:,} cells are missing, in {listed(columns)}: a number becomes the median of the training rows, a text "
        "no category, and another feature of the column says that it was missing"
    ]


def _useless(name: str, column: Column, training: Column) -> str | None:
    """Return why a column tells nothing, or None."""
    there = ~training.missing
    if not there.any():
        return "has no value in the training rows"
    values = training.values if isinstance(training, Numbers) else training.codes
    if there.all() and (values == values[0]).all():
        return "has one value in all training rows"
    if isinstance(column, Numbers) and len(column.values) > FEW_CATEGORIES:
        steps = np.diff(column.values)
        if column.whole and (steps == 1).all():
            return "counts the rows"
    return None if name else "has no name"


def _rule(where: str, training: Column, name: str, rows: int) -> Rule:
    missing = bool(training.missing.any())
    if isinstance(training, Numbers):
        median = float(np.median(training.values[~training.missing]))
        values = np.where(training.missing, median, training.values)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = float(values.mean()), float(values.std())
        if not np.isfinite([mean, deviation]).all():
            raise DatasetError(
                f"{where}: the numbers of column {shown(name)} are too large; their squares overflow"
            )
        # A column that is constant but for missing cells has a deviation of 0.
        return NumberRule(name, median, mean, deviation or 1.0, missing)
    used = sorted({training.names[code] for code in np.unique(training.codes).tolist() if code >= 0})
    if all(_DATE.fullmatch(text) for text in used):
        raise DatasetError(
            f"{where}: column {shown(name)} holds dates or times, such as {shown(used[0])}; numbers, such as days "
            "since one of them, are required, or the column left out (drop)"
        )
    if training.many or len(used) > MAX_CATEGORIES or (len(used) > FEW_CATEGORIES and 2 * len(used) > rows):
        count = f"more than {len(used):,}" if training.many else f"{len(used):,}"
        raise DatasetError(
            f"{where}: column {shown(name)} has {count} different texts in {rows:,} training rows, such as "
            f"{listed(used[:3])}; categories, at most {MAX_CATEGORIES}, are required, or the column left out "
            "(drop)"
        )
    return CategoryRule(name, tuple(used), missing)
