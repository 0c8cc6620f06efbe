"""A CSV file with one row for each record of a run."""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fgnumba.storage.durable import AppendLog, make_folder, replace
from fgnumba.storage.files import read_whole
from fgnumba.training.loggers.base import Logger
from fgnumba.validation.paths import path_of

MAX_SIZE = 1 << 28
"""Largest size of a file that is continued, in bytes."""


class CSVLogger(Logger):
    """Logs a run to a CSV file, with a row for each record.

    The first line has the names, each further one is a record: `step`, the losses and metrics, `learning_rate`,
    `epoch`, `seconds`. A figure that was not measured is empty. A row is in the file as soon as its record is made. The
    settings of the run are in a JSON file beside it, ``log.settings.json`` for ``log.csv``.

    A run that is resumed goes on in its file: rows beyond the checkpoint are cut off, since they come again. A new run
    replaces the file. Where a record has figures for which there is no column, such as the test figures of the last
    one, the file is replaced by one that has it.

    Parameters
    ----------
    path : str or path
        The file. Its folder is created if it is missing.
    warn : callable, optional
        Called with a line of text if the file cannot be written; the run goes on without it. None (the default): issues
        a ``RuntimeWarning``.

    Raises
    ------
    ConfigError
        The path is impossible.
    """

    def __init__(self, path: str | os.PathLike[str], warn: Callable[[str], None] | None = None) -> None:
        super().__init__(warn)
        self.path = path_of(path, "path")
        self._file: AppendLog | None = None
        self._rows: dict[int, dict[str, str]] = {}
        self._names: list[str] = []

    def __getstate__(self) -> dict[str, Any]:
        # A copy has no open file, and logs nothing before its own run begins.
        return {**vars(self), "_file": None, "_works": False}

    def begin(self, settings: Mapping[str, Any], done: int) -> None:
        """Begin the file, or go on in it after step `done`."""
        self.release()
        self._rows, self._names = {}, []
        make_folder(self.path.parent)
        if done and self.path.exists():
            self._read(done)
        replace(self.settings_path, (json.dumps(dict(settings), indent=1) + "\n").encode())
        self._replace()

    @property
    def settings_path(self) -> Path:
        """The file with the settings of the run."""
        return self.path.with_name(f"{self.path.stem}.settings.json")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write figures into the row of a step, and the row into the file."""
        texts = {name: ("nan" if math.isnan(value) else repr(float(value))) for name, value in values.items()}
        new = step not in self._rows and texts.keys() <= set(self._names)
        self._rows[step] = {**self._rows.get(step, {}), **texts}
        if new and self._file is not None:
            self._file.append(_line([str(step), *(texts.get(name, "") for name in self._names)]).encode())
            self._file.flush()
        else:
            self._names += [name for name in texts if name not in self._names]
            self._replace()

    def drop(self, step: int) -> None:
        """Remove the rows after a step."""
        later = [one for one in self._rows if one > step]
        for one in later:
            del self._rows[one]
        if later:
            self._replace()

    def finish(self, ended_by: str) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.sync()
        self.release()

    def release(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _replace(self) -> None:
        """Write the whole file anew."""
        self.release()
        lines = [_line(["step", *self._names])] if self._names else []
        for step, row in sorted(self._rows.items()):
            lines.append(_line([str(step), *(row.get(name, "") for name in self._names)]))
        replace(self.path, "".join(lines).encode())
        self._file = AppendLog(self.path)

    def _read(self, done: int) -> None:
        """Read the rows up to step `done`; a line that breaks off, as after a crash, ends them."""
        text = read_whole(self.path, MAX_SIZE).decode("utf-8-sig", "replace")
        rows = csv.reader(text.splitlines())
        head = next(rows, ["step"])
        if head[:1] != ["step"]:
            return
        self._names = head[1:]
        for row in rows:
            if len(row) != len(head) or not row[0].isdecimal() or int(row[0]) > done:
                break
            self._rows[int(row[0])] = {
                name: text for name, text in zip(self._names, row[1:], strict=True) if text
            }


def _line(values: list[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(values)
    return stream.getvalue()
