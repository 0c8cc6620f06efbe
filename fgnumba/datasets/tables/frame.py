"""A table in memory: its columns by name, each of numbers or of text."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fgnumba.errors import DatasetError, shown
from fgnumba.kernels.machine.memory import physical_memory, readable

MAX_NAMES = 1 << 16
"""Most different texts that are kept of a column: one with more is no category, and no class."""
MAX_COLUMNS = 1 << 16
BYTES_A_CELL = 20
"""Memory that a cell needs at most: 8 bytes for its number, 4 for the feature, and 8 while features are computed."""


@dataclass(frozen=True)
class Numbers:
    """A column of numbers.

    Parameters
    ----------
    values : ndarray, (n,) float64
        The numbers; NaN where a number is missing.
    whole : bool
        Whether all of them were written as whole numbers.
    """

    values: np.ndarray
    whole: bool

    @property
    def missing(self) -> np.ndarray:
        """Whether the cell of each row is empty, (n,) bool."""
        return np.isnan(self.values)

    def part(self, rows: np.ndarray) -> "Numbers":
        """Return the column of some rows."""
        return Numbers(self.values[rows], self.whole)


@dataclass(frozen=True)
class Texts:
    """A column of text.

    Parameters
    ----------
    codes : ndarray, (n,) int32
        The index in `names` of each row's text; -1 where it is missing.
    names : tuple of str
        The different texts, in the order in which they were met.
    many : bool
        Whether there are more than `MAX_NAMES` different texts; the codes of those beyond are -1.
    """

    codes: np.ndarray
    names: tuple[str, ...]
    many: bool = False

    @property
    def missing(self) -> np.ndarray:
        """Whether the cell of each row is empty, (n,) bool."""
        return self.codes < 0

    def part(self, rows: np.ndarray) -> "Texts":
        """Return the column of some rows."""
        return Texts(self.codes[rows], self.names, self.many)


Column = Numbers | Texts


@dataclass(frozen=True)
class Frame:
    """A table.

    Parameters
    ----------
    where : str
        The file, for messages.
    columns : dict
        The columns by name, in the file's order, all of one length.
    rows : int
        The number of rows, at least 1.
    notes : tuple of str
        What a reader should know about how the file was read, one line each.
    """

    where: str
    columns: dict[str, Column]
    rows: int
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> Column:
        """Return a column by its name, or raise DatasetError with the names that there are."""
        if name not in self.columns:
            raise DatasetError(
                f"{self.where}: no column {shown(name)}; the columns are {listed(self.columns)}"
            )
        return self.columns[name]


def listed(names: "Iterator[str] | dict[str, Column] | list[str]", most: int = 12) -> str:
    """Return the first names with commas between, and how many there are in all where not all are listed."""
    every = list(names)
    more = f", … ({len(every)} in all)" if len(every) > most else ""
    return ", ".join(map(shown, every[:most])) + more


def check_names(where: str, names: list[str]) -> None:
    """Raise DatasetError if two columns have one name, or if there are too many columns."""
    if len(names) > MAX_COLUMNS:
        raise DatasetError(f"{where}: {len(names):,} columns; at most {MAX_COLUMNS:,} are possible")
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise DatasetError(f"{where}: two columns are called {shown(twice)}; each needs a name of its own")


def check_memory(where: str, rows: int, columns: int) -> None:
    """Raise DatasetError unless the machine's memory holds a table of so many rows and columns."""
    needed = rows * columns * BYTES_A_CELL
    if needed > physical_memory():
        raise DatasetError(
            f"{where}: {rows:,} rows of {columns:,} columns need {readable(needed)}; this machine has "
            f"{readable(physical_memory())}"
        )


def finite(where: str, name: str, column: Numbers) -> Numbers:
    """Return a column after checking that no number in it is infinite."""
    infinite = np.isinf(column.values)
    if infinite.any():
        row = int(np.argmax(infinite)) + 1
        raise DatasetError(
            f"{where}: row {row} of column {shown(name)} is infinite; finite numbers are required"
        )
    return column
