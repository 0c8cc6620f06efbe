"""``metrics.jsonl``: a line of JSON a record of a run."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, BinaryIO

from fgnumba.callbacks import Record

MAX_LINE = 4096
"""Bytes: several times what a record takes."""


def line_of(record: Record) -> str:
    """Return a record as a line."""
    return json_object(asdict(record)) + "\n"


def json_object(values: Mapping[str, Any]) -> str:
    """Return one line of JSON, which has no NaN and no infinity: they become null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    return json.dumps(finite, allow_nan=False)


def record_of(line: bytes) -> Record:
    """Return the record of a line; a null is NaN. ValueError where it is none."""
    try:
        values = json.loads(line)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None
    names = [field.name for field in fields(Record)]
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise ValueError(f"a record has {', '.join(names)}, and nothing else")
    step = values["step"]
    if type(step) is not int or not 0 < step < 1 << 63:
        raise ValueError(f"step is {str(step)[:40]}; a whole number above 0 is required")
    for name in names[1:]:
        if values[name] is None:
            values[name] = math.nan
        elif type(values[name]) not in (int, float):
            raise ValueError(f"{name} is {str(values[name])[:40]!r}; a number or null is required")
        values[name] = float(values[name])
    return Record(**values)


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
            record = record_of(line)
            if records and record.step <= records[-1].step:
                raise ValueError(f"step {record.step} comes after step {records[-1].step}")
        except (ValueError, OverflowError) as error:
            return records, read, f"line {len(records) + 1}: {error}"
        records.append(record)
        read += len(line)
    return records, read, None
