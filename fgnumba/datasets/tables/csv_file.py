"""Tables as text: fields with a comma, semicolon, tab or bar between, below a line of names (RFC 4180).

The file is read twice: once to see which columns hold numbers and how many rows there are, and once to fill arrays of
the right size. So no more memory is taken than the table needs, and that is compared with the machine's before.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fgnumba.datasets.tables.frame import (
    MAX_NAMES,
    Column,
    Frame,
    Numbers,
    Texts,
    check_memory,
    check_names,
    finite,
)
from fgnumba.errors import DatasetError, shown
from fgnumba.storage.files import open_regular

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "?"))
"""What an empty cell is written as, in lower case."""
MAX_ROW = 1 << 24
"""Number of characters that a row may not reach."""
SAMPLE = 1 << 16
SAMPLED_ROWS = 50
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
FALLBACK = "cp1252"

_WHOLE = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?")


def read_csv(path: Path, texts: Mapping[str, bool] | None = None) -> Frame:
    """Return the table in a text file.

    Parameters
    ----------
    path : pathlib.Path
        The file: UTF-8, UTF-16 with a byte-order mark, or else Windows-1252, which is noted. The delimiter is the one
        that cuts the first rows into the same number of fields. Where it is no comma, numbers may have decimal commas.
    texts : mapping, optional
        For the columns whose kind is known, whether they hold text. Others are skipped. By default every column of
        which all cells are numbers holds numbers.

    Raises
    ------
    DatasetError
        If the file cannot be read, is empty or no such text, has rows of different lengths or two columns of one name,
        or is larger than the machine's memory.
    """
    try:
        encoding, delimiter = _layout(path)
        try:
            return _read(path, encoding, delimiter, texts)
        except UnicodeDecodeError:
            if encoding != "utf-8":
                raise
        frame = _read(path, FALLBACK, delimiter, texts)
        note = f"{path}: not UTF-8 text; read as Windows-1252"
        return Frame(frame.where, frame.columns, frame.rows, (note, *frame.notes))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise DatasetError(
            f"{path}: neither UTF-8 nor UTF-16 nor Windows-1252 text; save it as UTF-8"
        ) from None
    except csv.Error as error:
        raise DatasetError(f"{path}: not a table of text ({error})") from None


def _layout(path: Path) -> tuple[str, str]:
    """Return the encoding of a file as far as its first bytes tell it, and the delimiter of its first rows."""
    with open_regular(path) as file:
        start = file.read(SAMPLE)
    if not start:
        raise DatasetError(f"{path}: is empty; a line of names and rows below it are required")
    encoding = next((name for mark, name in MARKS if start.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in start:
        raise DatasetError(f"{path}: not text: it holds null bytes; a table as text or Parquet is required")
    text = start.decode(encoding, "replace")
    # The last row of the sample may be cut.
    whole = text[: text.rfind("\n") + 1] or text
    best, fields = ",", 1
    for delimiter in DELIMITERS:
        rows = _sample(whole, delimiter)
        widths = [len(row) for row in rows]
        if widths and widths[0] > fields and len(set(widths)) == 1:
            best, fields = delimiter, widths[0]
    if fields == 1:
        # Ragged rows: the delimiter that is in the first line most often.
        counts = {delimiter: whole.partition("\n")[0].count(delimiter) for delimiter in DELIMITERS}
        best = max(counts, key=lambda delimiter: counts[delimiter])
    return encoding, best


def _sample(text: str, delimiter: str) -> list[list[str]]:
    rows = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) == SAMPLED_ROWS:
                break
    except csv.Error:
        return []
    return rows


class _Rows:
    """The rows of a file, each with the number of its last line; blank lines are skipped."""

    def __init__(self, path: Path, stream: io.TextIOWrapper, delimiter: str) -> None:
        self._path, self._stream, self._characters = path, stream, 0
        self._reader = csv.reader(self._lines(), delimiter=delimiter, strict=True)

    def _lines(self) -> Iterator[str]:
        while line := self._stream.readline(MAX_ROW):
            self._characters += len(line)
            if self._characters >= MAX_ROW:
                raise DatasetError(
                    f"{self._path}: a row of {MAX_ROW:,} characters or more; is a quote not closed?"
                )
            yield line

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        for row in self._reader:
            self._characters = 0
            if row:
                yield self._reader.line_num, row


def _opened(path: Path, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(open_regular(path), encoding=encoding, newline="")


class _Kind:
    """What the cells of a column can be read as."""

    def __init__(self) -> None:
        self.whole = self.real = self.comma = True
        self.bad: tuple[int, str] | None = None

    def see(self, line: int, cell: str) -> None:
        cell = cell.strip()
        if self.whole:
            if _WHOLE.fullmatch(cell):
                return
            self.whole = False
        if self.real and not _REAL.fullmatch(cell):
            self.real = False
            self.bad = (line, cell)
        if self.comma and not (_COMMA.fullmatch(cell) or _WHOLE.fullmatch(cell)):
            self.comma = False


def _read(path: Path, encoding: str, delimiter: str, texts: Mapping[str, bool] | None) -> Frame:
    with _opened(path, encoding) as stream:
        rows = iter(_Rows(path, stream, delimiter))
        names = _header(path, next(rows, None))
        kinds = [_Kind() for _ in names]
        wanted = [i for i, name in enumerate(names) if texts is None or name in texts]
        count = 0
        for line, row in rows:
            if len(row) != len(names):
                raise DatasetError(
                    f"{path}: line {line} has {len(row)} fields and the first line {len(names)}, with "
                    f"{DELIMITERS[delimiter]} between them; the two numbers must be equal"
                )
            count += 1
            for i in wanted:
                if row[i].strip().lower() not in MISSING:
                    kinds[i].see(line, row[i])
    if count == 0:
        raise DatasetError(f"{path}: has a line of names and no rows")
    check_memory(str(path), count, len(names))
    decimal_commas = delimiter != ","
    fillers: dict[int, _Filler] = {}
    for i in wanted:
        kind = kinds[i]
        number = kind.real or (decimal_commas and kind.comma)
        text = not number if texts is None else texts[names[i]]
        if not text and not number:
            line, cell = kind.bad or (0, "")
            raise DatasetError(
                f"{path}: line {line}: {shown(cell)} in column {shown(names[i])}; a number is required"
            )
        fillers[i] = _TextFiller(count) if text else _NumberFiller(count, kind.real)
    with _opened(path, encoding) as stream:
        rows = iter(_Rows(path, stream, delimiter))
        next(rows)
        for index, (_, row) in enumerate(rows):
            if index == count:
                break
            for i, filler in fillers.items():
                cell = row[i].strip()
                filler.put(index, None if cell.lower() in MISSING else cell)
    notes = (
        [] if delimiter == "," else [f"{path}: {DELIMITERS[delimiter]} are taken as the delimiter of fields"]
    )
    columns = {names[i]: filler.column(str(path), names[i], kinds[i].whole) for i, filler in fillers.items()}
    return Frame(str(path), columns, count, tuple(notes))


def _header(path: Path, first: tuple[int, list[str]] | None) -> list[str]:
    if first is None:
        raise DatasetError(f"{path}: is empty; a line of names and rows below it are required")
    names = [name.strip() for name in first[1]]
    if all(_REAL.fullmatch(name) for name in names):
        raise DatasetError(
            f"{path}: the first line holds numbers; a line with the names of the columns is required"
        )
    check_names(str(path), names)
    return names


class _Filler:
    """The array of a column while it is filled."""

    def put(self, index: int, cell: str | None) -> None:
        raise NotImplementedError

    def column(self, where: str, name: str, whole: bool) -> Column:
        raise NotImplementedError


class _NumberFiller(_Filler):
    def __init__(self, count: int, points: bool) -> None:
        self._values, self._points = np.full(count, np.nan), points

    def put(self, index: int, cell: str | None) -> None:
        if cell is not None:
            self._values[index] = float(cell if self._points else cell.replace(",", "."))

    def column(self, where: str, name: str, whole: bool) -> Column:
        return finite(where, name, Numbers(self._values, whole))


class _TextFiller(_Filler):
    def __init__(self, count: int) -> None:
        self._codes = np.full(count, -1, np.int32)
        self._number: dict[str, int] = {}
        self._many = False

    def put(self, index: int, cell: str | None) -> None:
        if cell is None:
            return
        code: Any = self._number.get(cell)
        if code is None:
            if len(self._number) == MAX_NAMES:
                self._many = True
                return
            code = self._number[cell] = len(self._number)
        self._codes[index] = code

    def column(self, where: str, name: str, whole: bool) -> Column:
        return Texts(self._codes, tuple(self._number), self._many)
