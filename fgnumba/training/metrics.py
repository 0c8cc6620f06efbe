"""``metrics.jsonl``: a line of JSON a record of a run."""

import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, BinaryIO

from fgnumba.errors import shown
from fgnumba.storage.files import read_whole
from fgnumba.storage.json_lines import json_object, parsed
from fgnumba.training.records import Record

MAX_LINE, MAX_RECORDS = 4096, 1 << 26
"""Bytes of the longest line, several times what a record takes, and of the longest file that is read whole."""
_NAMES = frozenset(field.name for field in fields(Record))
_PARTS = "test", "validation"
_FIGURES = frozenset(f"{part}_{figure}" for part in _PARTS for figure in ("loss", "accuracy"))
"""What a record need not have."""


def line_of(record: Record) -> str:
    """Return a record as a line, without the figures that were not taken: those of a part whose accuracy is NaN.

    A loss that was taken and is not finite is written as null, so that a record which is read and written again is the
    same line.
    """
    values = asdict(record)
    for part in _PARTS:
        if math.isnan(values[f"{part}_accuracy"]):
            del values[f"{part}_loss"], values[f"{part}_accuracy"]
    return json_object(values) + "\n"


def read_records(path: Path) -> list[Record]:
    """Return the records of a file; a number that JSON lacks, which is written as null, becomes NaN.

    Raises
    ------
    OSError
        The file cannot be opened, is no regular one, or longer than `MAX_RECORDS`.
    ValueError
        A line is no record; the message names it.
    """
    records = []
    for number, line in enumerate(read_whole(path, MAX_RECORDS).decode("utf-8-sig").splitlines(), 1):
        try:
            records.append(record(parsed(line)))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return records


def record(values: dict[str, Any]) -> Record:
    """Return a record of `values`, by its fields' names.

    Raises
    ------
    ValueError
        A field is missing or unknown, or its value is no number that it can have.
    """
    missing, unknown = sorted(_NAMES - _FIGURES - values.keys()), sorted(values.keys() - _NAMES)
    if missing or unknown:
        raise ValueError(
            f"{shown(missing)} are missing and {shown(unknown)} unknown"
            if missing
            else f"{shown(unknown)} are unknown"
        )
    reals = {name: real_of(name, value) for name, value in values.items() if name != "step"}
    return Record(step=step_of(values["step"]), **reals)


def step_of(value: Any) -> int:
    """Return the step that a line states; ValueError where it is none."""
    if type(value) is not int or value < 0:
        raise ValueError(f"step is {shown(value)}; a whole number, 0 or above, is required")
    return value


def real_of(name: str, value: Any) -> float:
    """Return the number that a line states, NaN for null; ValueError where it is none."""
    if value is None:
        return math.nan
    if type(value) in (int, float):
        try:
            return float(value)
        except OverflowError:
            pass
    raise ValueError(f"{name} is {shown(value)}; a number is required")


def readable(file: BinaryIO, size: int) -> tuple[list[Record], int, str | None]:
    """Return the records in the first `size` bytes up to a line that is none, the bytes they take, and what is wrong.

    No more than a line is in memory at a time.
    """
    records: list[Record] = []
    read = 0
    while read < size:
        line = file.readline(min(MAX_LINE + 1, size - read))
        try:
            if not line.endswith(b"\n"):
                raise ValueError("it breaks off" if len(line) <= MAX_LINE else "it is too long")
            found = record(parsed(line.decode()))
            if records and found.step <= records[-1].step:
                raise ValueError(f"step {found.step} comes after step {records[-1].step}")
        except ValueError as error:
            return records, read, f"line {len(records) + 1}: {error}"
        records.append(found)
        read += len(line)
    return records, read, None
