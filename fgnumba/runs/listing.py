"""What a run folder says of its run in a few numbers: ``fgtrain runs`` lists them, ``fgtrain show`` shows one.

Only small files are read: the settings, the records, and the header of the parameters. No model is built.
"""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fgnumba.errors import ConfigError, FgError, RunError, did_you_mean, printable
from fgnumba.runs import saved_run
from fgnumba.runs.configuration import CONFIG, RunConfig
from fgnumba.runs.run_folder import RESTORED
from fgnumba.storage.files import open_regular, size_of
from fgnumba.training.checkpoints import METRICS, MODEL
from fgnumba.training.metrics import MAX_RECORDS, readable
from fgnumba.training.records import Record
from fgnumba.training.text_metrics import NATS

SORTS = ("date", "name", "loss", "accuracy", "seconds", "steps")
"""Quantities by which runs can be sorted."""


@dataclass(frozen=True)
class Summary:
    """A run in a few numbers. A number that is not known is NaN.

    Parameters
    ----------
    name : str
        Name of the run folder.
    model, data, estimator : str
        The model's name or file, the data set's, and the gradient estimator's.
    steps : int
        Number of steps that the last record counts; 0 before the first record.
    planned : int or None
        Number of steps of the whole run, if it is known.
    loss : float
        Loss on the test data, or else on the validation data, or else the training loss, in the last record.
    accuracy : float
        Accuracy on the test data, or else on the validation data, from 0 to 1.
    metrics : dict of str to float
        Metrics on the test data, or else on the validation data; a classifier may have none.
    seconds : float
        Seconds that the run took.
    ended : str
        How the run ended, or ``not ended``.
    date : str
        Local time at which the run ended, or at which its last record was written: ``YYYY-MM-DD HH:MM``.
    """

    name: str
    model: str
    data: str
    estimator: str
    steps: int
    planned: int | None
    loss: float
    accuracy: float
    metrics: Mapping[str, float]
    seconds: float
    ended: str
    date: str

    @property
    def nats(self) -> float:
        """Nats per character, NaN if the data are no text."""
        return next((value for name, value in self.metrics.items() if short(name) == NATS), math.nan)

    @property
    def score(self) -> str:
        """Nats per character of a text, the accuracy, or the first metric with its name; empty if none is known."""
        if math.isfinite(self.nats):
            return f"{self.nats:.4f} nats"
        if math.isfinite(self.accuracy):
            return f"{self.accuracy:.4f}"
        return next((f"{short(name)} {value:.4g}" for name, value in self.metrics.items()), "")


@dataclass(frozen=True)
class Damaged:
    """A folder that is that of a run, but cannot be read.

    Parameters
    ----------
    name : str
        Name of the folder.
    problem : str
        What is wrong, as one line.
    """

    name: str
    problem: str


@dataclass(frozen=True)
class Shown:
    """A run with its settings and records, for ``fgtrain show``.

    Parameters
    ----------
    summary : Summary
        The run in a few numbers.
    config : RunConfig
        All settings of the run.
    facts : dict
        The ``[run]`` table of its config.toml.
    records : list of Record
        The records of the run.
    """

    summary: Summary
    config: RunConfig
    facts: dict[str, Any]
    records: list[Record]


def short(metric: str) -> str:
    """Return the name of a metric without the part of the data that it was measured on: ``r2`` of ``test_r2``.

    Parameters
    ----------
    metric : str
        Name of the metric.
    """
    return metric.removeprefix("validation_").removeprefix("test_")


def runs(folder: Path, sort: str = "date") -> tuple[list[Summary], list[Damaged]]:
    """Return the runs in a folder, and what in it is damaged. Folders without a config.toml are left out.

    Parameters
    ----------
    folder : Path
        A folder of run folders, or a run folder itself.
    sort : str
        What to sort by, one of `SORTS`; the smallest comes first, but for the accuracy, of which the largest does.
        Default: ``"date"``.

    Raises
    ------
    ConfigError
        `sort` is unknown.
    RunError
        The folder does not exist or cannot be read.
    """
    if sort not in SORTS:
        raise ConfigError(f"sort: unknown quantity {sort!r}{did_you_mean(sort, SORTS)}")
    found, damaged = list[Summary](), list[Damaged]()
    for path in _folders(folder):
        try:
            found.append(read(path).summary)
        except FgError as error:
            problem = str(error).removeprefix(f"{path}: ").removeprefix(f"{path}/").removeprefix(f"{path} ")
            damaged.append(Damaged(_name(path), printable(problem)))
    return sorted(found, key=lambda one: (_key(one, sort), _natural(one.name))), damaged


def _folders(folder: Path) -> list[Path]:
    try:
        if (folder / CONFIG).exists():
            return [folder]
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
        return sorted((path for path in inside if (path / CONFIG).exists()), key=lambda p: _natural(p.name))
    except OSError as error:
        raise RunError(f"{folder}: {error.strerror or error}; a folder of runs is required") from None


def _name(path: Path) -> str:
    return printable(path.name if path.name not in ("", "..") else path.resolve().name)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts run-2 before run-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


def _key(one: Summary, sort: str) -> Any:
    value = -one.accuracy if sort == "accuracy" else getattr(one, sort)
    if sort == "name":
        return 0
    # A number that is not known comes last.
    return (1, 0.0) if isinstance(value, float) and math.isnan(value) else (0, value)


def read(path: Path) -> Shown:
    """Return a run, which need not have ended.

    Parameters
    ----------
    path : Path
        The run folder.

    Raises
    ------
    RunError
        The folder is not a run folder, or a file in it is damaged.
    """
    config, facts = saved_run.read_unfinished(path)
    ended = (path / MODEL).is_file()
    records = _records(path, ended)
    last = records[-1] if records else None
    summary = Summary(
        name=_name(path),
        model=printable(config.model),
        data=printable(config.data),
        estimator=printable(config.estimator or ""),
        steps=last.step if last else 0,
        planned=config.steps,
        loss=_last(last, "loss"),
        accuracy=_last(last, "accuracy"),
        metrics=_metrics(last),
        seconds=last.seconds if last else math.nan,
        ended=_ended(config, facts, last, ended),
        date=_date(path),
    )
    return Shown(summary, config, facts, records)


def _records(path: Path, ended: bool) -> list[Record]:
    """Return the records of a run; those of a run that goes on may break off in the middle of a line."""
    try:
        with open_regular(path / METRICS) as file:
            size = size_of(file)
            if size > MAX_RECORDS:
                raise RunError(
                    f"{path / METRICS} is damaged: {size:,} bytes; at most {MAX_RECORDS:,} are possible"
                )
            records, _, wrong = readable(file, size)
    except FileNotFoundError:
        wrong, records = f"{METRICS} is missing" if ended else None, []
    except OSError as error:
        raise RunError(f"{path / METRICS} is damaged: {error.strerror or error}") from None
    if wrong is not None and ended:
        raise RunError(f"{path / METRICS} is damaged: {wrong}")
    return records


def _last(record: Record | None, quantity: str) -> float:
    """Return a quantity on the test data, or else on the validation data, or else the record's own."""
    names = (f"test_{quantity}", f"validation_{quantity}", quantity)
    values = (float(getattr(record, name, math.nan)) for name in names)
    return next((value for value in values if math.isfinite(value)), math.nan)


def _metrics(record: Record | None) -> dict[str, float]:
    """Return the metrics of a record on the test data, or else on the validation data."""
    if record is None:
        return {}
    parts = (
        {name: value for name, value in record.metrics.items() if name.startswith(part)}
        for part in ("test_", "validation_")
    )
    return next((part for part in parts if part), {})


def _ended(config: RunConfig, facts: Mapping[str, Any], last: Record | None, ended: bool) -> str:
    diverged, restored = facts.get("diverged_at_step"), facts.get(RESTORED)
    if not ended:
        return "not ended"
    if isinstance(diverged, int):
        return f"diverged at {diverged}"
    how = "early" if last is not None and config.steps and last.step < config.steps else "all steps"
    return f"{how}, best {restored}" if isinstance(restored, int) else how


def _date(path: Path) -> str:
    for name in (MODEL, METRICS, CONFIG):
        with contextlib.suppress(OSError, OverflowError, ValueError):
            moment = datetime.fromtimestamp((path / name).stat().st_mtime).astimezone()
            return moment.strftime("%Y-%m-%d %H:%M")
    return ""


def headline(one: Summary) -> str:
    """Return what came of a run as one sentence.

    Parameters
    ----------
    one : Summary
        The run.
    """
    if not one.steps:
        return f"{one.name} has no record yet."
    of = f" of {one.planned:,}" if one.planned and one.planned != one.steps else ""
    took = f" in {one.seconds:.{1 if one.seconds >= 1 else 3}f} s" if math.isfinite(one.seconds) else ""
    if math.isfinite(one.nats):
        reached = f"{one.nats:.4f} nats per character ({one.nats / math.log(2):.4f} bits)"
    elif math.isfinite(one.accuracy):
        reached = f"an error of {100 * (1 - one.accuracy):.2f} % (accuracy {one.accuracy:.4f})"
    elif one.metrics:
        reached = " and ".join(f"{short(n)} {value:.4g}" for n, value in list(one.metrics.items())[:2])
    else:
        reached = f"a loss of {one.loss:.4g}"
    verb = "has reached" if one.ended == "not ended" else "reached"
    end = next(text for start, text in _SENTENCES if one.ended.startswith(start))
    return f"{one.estimator or 'The run'} {verb} {reached} on {one.data} after {one.steps:,} steps{of}{took}{end}."


_SENTENCES = (
    ("not ended", "; it has not ended"),
    ("diverged", "; then it diverged"),
    ("early", "; it ended early, as it no longer improved"),
    ("", ""),
)


def settings(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield the settings of a run that are not their default, by name, as text.

    Parameters
    ----------
    config : RunConfig
        The settings.
    """
    default = RunConfig()
    always = ("model", "data", "estimator", "optimizer", "learning_rate", "steps", "batch_size", "seed")
    for name in dict.fromkeys((*always, *vars(config))):
        value = getattr(config, name)
        if name == "layers" or value is None or (value == getattr(default, name) and name not in always):
            continue
        text = ", ".join(map(str, value)) if isinstance(value, tuple) else value
        yield name.replace("_", " "), printable(f"{text:.6g}" if isinstance(text, float) else str(text))
