"""``metrics.jsonl``: the records of a run, one JSON object on each line."""

import math
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, BinaryIO

from fgnumba.errors import shown
from fgnumba.storage.files import read_whole
from fgnumba.storage.json_lines import json_object, parsed
from fgnumba.training.records import Record

MAX_LINE, MAX_RECORDS = 16384, 1 << 26
"""Largest size of a line, which holds a record with `MAX_METRICS`, and of a file that is read as a whole, in bytes."""
_NAMES = frozenset(field.name for field in fields(Record)) - {"metrics"}
_PARTS = "test", "validation"
_METRIC = re.compile(r"(?:test|validation)_[A-Za-z_]\w{0,99}", re.ASCII)
MAX_METRICS = 64
_FIGURES = frozenset(f"{part}_{figure}" for part in _PARTS for figure in ("loss", "accuracy"))
"""Names that the line of a record may lack."""


def line_of(record: Record) -> str:
    """Return a record as a line of ``metrics.jsonl``.

    The test or validation loss and accuracy are left out if they were not measured, which a NaN accuracy says where
    there is no other metric. A loss that was measured and is not finite is written as null, so that a line that is read
    and written again is the same.

    Parameters
    ----------
    record : Record
        The record.
    """
    values = asdict(record)
    metrics = values.pop("metrics")
    for part in _PARTS:
        if math.isnan(values[f"{part}_accuracy"]):
            del values[f"{part}_accuracy"]
            if not any(name.startswith(f"{part}_") for name in metrics):
                del values[f"{part}_loss"]
    return json_object({**values, **metrics}) + "\n"


def read_records(path: Path) -> list[Record]:
    """Return the records in a file. A null in it, which stands for a number that JSON lacks, becomes NaN.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    OSError
        The file cannot be opened, is not a regular file, or is longer than `MAX_RECORDS` bytes.
    ValueError
        A line is not a record. The message gives its number.
    """
    records = []
    for number, line in enumerate(read_whole(path, MAX_RECORDS).decode("utf-8-sig").splitlines(), 1):
        try:
            records.append(record(parsed(line)))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return records


def record(values: dict[str, Any]) -> Record:
    """Return the record with these values.

    Parameters
    ----------
    values : dict
        Values by the names of the record's fields, as JSON gives them. Test and validation values may be missing.

    Raises
    ------
    ValueError
        A field is missing or unknown, or its value is not a number that it can have.
    """
    metrics = sorted(name for name in values.keys() - _NAMES if _METRIC.fullmatch(name))
    missing, unknown = (
        sorted(_NAMES - _FIGURES - values.keys()),
        sorted(values.keys() - _NAMES - set(metrics)),
    )
    if missing or unknown:
        raise ValueError(
            f"{shown(missing)} are missing and {shown(unknown)} unknown"
            if missing
            else f"{shown(unknown)} are unknown"
        )
    if len(metrics) > MAX_METRICS:
        raise ValueError(f"{len(metrics)} metrics; at most {MAX_METRICS} are possible")
    reals = {name: real_of(name, value) for name, value in values.items() if name != "step"}
    own = {name: reals.pop(name) for name in values if name in metrics}
    return Record(step=step_of(values["step"]), **reals, metrics=own)


def step_of(value: Any) -> int:
    """Return a step number from a line.

    Parameters
    ----------
    value : object
        The value in the line.

    Raises
    ------
    ValueError
        It is not a whole number of 0 or above.
    """
    if type(value) is not int or value < 0:
        raise ValueError(f"step is {shown(value)}; a whole number, 0 or above, is required")
    return value


def real_of(name: str, value: Any) -> float:
    """Return a number from a line as a float, NaN for null.

    Parameters
    ----------
    name : str
        Name of the value, for the error message.
    value : object
        The value in the line.

    Raises
    ------
    ValueError
        It is not a number, or too large for a float.
    """
    if value is None:
        return math.nan
    if type(value) in (int, float):
        try:
            return float(value)
        except OverflowError:
            pass
    raise ValueError(f"{name} is {shown(value)}; a number is required")


def readable(file: BinaryIO, size: int) -> tuple[list[Record], int, str | None]:
    """Read the records at the beginning of a file, up to the first damaged line, with one line in memory at a time.

    Parameters
    ----------
    file : file object
        The file, opened in binary mode.
    size : int
        Number of bytes to read.

    Returns
    -------
    records : list of Record
        The records before the first damaged line.
    read : int
        Number of bytes that they take.
    wrong : str or None
        What is wrong with the damaged line, or None if there is none.
    """
    records: list[Record] = []
    read = 0
    while read < size:
        line = file.readline(min(MAX_LINE + 1, size - read))
        try:
            if not line.endswith(b"\n"):
                raise ValueError("it breaks off" if len(line) <= MAX_LINE else "it is too long")
            latest = record(parsed(line.decode()))
            if records and latest.step <= records[-1].step:
                raise ValueError(f"step {latest.step} comes after step {records[-1].step}")
        except ValueError as error:
            return records, read, f"line {len(records) + 1}: {error}"
        records.append(latest)
        read += len(line)
    return records, read, None
