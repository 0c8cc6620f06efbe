"""Learning rates by successive halving: many on a short run, the best third on one three times as long, and so on.

Each trial is a run by itself on nine tenths of the training data, judged by the rest, which has the same share of every
class (``fgnumba.datasets.validation_split``): the test data are not seen. A trial is a function of its settings, so
that what a file of finished trials holds is never run again.

Source: K. Jamieson, A. Talwalkar, arXiv 1502.07943.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fgnumba.datasets import Dataset, validation_split
from fgnumba.errors import ConfigError, DivergenceError, RunError, shown
from fgnumba.estimators import Recipe
from fgnumba.runs.assembly import assemble
from fgnumba.runs.configuration import RunConfig
from fgnumba.storage.durable import sync_folder, write_all
from fgnumba.storage.files import read_whole
from fgnumba.storage.json_lines import parsed
from fgnumba.training.evaluation import evaluate
from fgnumba.training.metrics import MAX_RECORDS
from fgnumba.uninterrupted import Uninterrupted
from fgnumba.validation import optional, real_number, several, store, whole_number
from fgnumba.validation.paths import path_of

KEPT = 3
"""One in so many trials goes on."""

HELD_OUT = 0.1
"""The share of the training data that judges: more than that of a run, since trials that are close are told apart."""


@dataclass(frozen=True)
class Trial:
    """A run and its outcome.

    Parameters
    ----------
    learning_rate, fall : at the first step, and by which power of e it falls until the last.
    steps : of the run.
    accuracy, loss : on what was held out; None where it diverged.
    """

    learning_rate: float
    fall: float
    steps: int
    accuracy: float | None
    loss: float | None

    def __post_init__(self) -> None:
        # They are known by these three numbers: 0.1 is not np.float32(0.1).
        store(
            self,
            learning_rate=real_number("learning_rate", self.learning_rate),
            fall=real_number("fall", self.fall),
            steps=whole_number("steps", self.steps),
            accuracy=optional(real_number, "accuracy", self.accuracy),
            loss=optional(real_number, "loss", self.loss),
        )

    @property
    def score(self) -> tuple[float, float]:
        """What trials are ranked by: accuracy, then loss."""
        if self.accuracy is None or self.loss is None:
            return -1.0, -math.inf
        return self.accuracy, -self.loss


@dataclass(frozen=True)
class Search:
    """What is searched.

    Parameters
    ----------
    lowest, highest : learning rates; `count` of them, evenly spaced by their logarithms.
    falls : powers of e by which the rate falls over a run.
    steps : of the longest runs.

    Raises
    ------
    ConfigError
    """

    lowest: float = 1e-5
    highest: float = 1.0
    count: int = 16
    falls: tuple[float, ...] = (4.0,)
    steps: int = 2000

    def __post_init__(self) -> None:
        falls = several(self.falls)
        if falls is None:
            raise ConfigError(f"falls is {shown(self.falls)}; several numbers are required, such as (4.0,)")
        store(
            self,
            lowest=real_number("lowest", self.lowest, above_zero=True),
            highest=real_number("highest", self.highest, above_zero=True),
            count=whole_number("count", self.count),
            falls=tuple(real_number("falls", fall) for fall in falls),
            steps=whole_number("steps", self.steps),
        )
        if self.highest < self.lowest:
            raise ConfigError(
                f"highest is {self.highest:g}; at least {self.lowest:g}, the lowest, is required"
            )
        if not self.falls:
            raise ConfigError("falls is empty; at least one is required")

    def candidates(self) -> list[tuple[float, float]]:
        """Return (learning rate, fall) of every trial of the first rung, rates to three digits."""
        rates = np.geomspace(self.lowest, self.highest, self.count)
        return list(dict.fromkeys(product((float(f"{rate:.3g}") for rate in rates), self.falls)))

    def rungs(self) -> list[tuple[int, int]]:
        """Return (trials, steps) of each rung."""
        number = len(self.candidates())
        found = []
        while True:
            found.append(number)
            if number <= 2:
                break
            number = max(1, round(number / KEPT))
        return [(n, max(1, self.steps // KEPT ** (len(found) - 1 - i))) for i, n in enumerate(found)]


def search(
    config: RunConfig,
    dataset: Dataset,
    what: Search,
    known: Sequence[Trial] = (),
    tell: Callable[[Trial], None] = lambda trial: None,
    chosen: Recipe | None = None,
) -> list[Trial]:
    """Return all trials, rung by rung; the best is the first of the last rung.

    Parameters
    ----------
    config : of the runs, learning rate, decay and length aside.
    known : trials that have been run with the same settings.
    tell : told of each trial that was run.
    chosen : the recipe of the estimator, where it is none of the library's.

    Raises
    ------
    ConfigError
    """
    # The same examples judge every trial, whatever its seed.
    data = validation_split(dataset, HELD_OUT, 0)
    done = {(trial.learning_rate, trial.fall, trial.steps): trial for trial in known}
    candidates, found = what.candidates(), list[Trial]()
    for number, steps in what.rungs():
        rung = []
        for rate, fall in candidates[:number]:
            trial = done.get((rate, fall, steps))
            if trial is None:
                trial = _run(config, data, rate, fall, steps, chosen)
                done[rate, fall, steps] = trial
                tell(trial)
            rung.append(trial)
        rung.sort(key=lambda trial: trial.score, reverse=True)
        candidates = [(trial.learning_rate, trial.fall) for trial in rung]
        found = [*rung, *found]
    return found


def _run(
    config: RunConfig, data: Dataset, rate: float, fall: float, steps: int, chosen: Recipe | None
) -> Trial:
    settings = {"learning_rate": rate, "decay": fall / steps, "steps": steps}
    trainer = assemble(config.updated(settings), data, chosen).trainer
    batches = data.batches(min(config.batch_size, len(data.x_train)), config.seed)
    try:
        for _ in range(steps):
            trainer.step(*next(batches))
    except DivergenceError:
        return Trial(rate, fall, steps, None, None)
    judged = evaluate(trainer.model, data.x_test, data.y_test)
    if not math.isfinite(judged.loss):
        return Trial(rate, fall, steps, None, None)
    return Trial(rate, fall, steps, judged.accuracy, judged.loss)


def _trial(values: dict[str, Any]) -> Trial:
    """Return a trial of `values`, by its fields' names; ValueError where it is none."""
    names = [field.name for field in fields(Trial)]
    if sorted(values) != sorted(names):
        raise ValueError("another set of fields")
    for name, value in values.items():
        absent = value is None and name in ("accuracy", "loss")
        if not absent and type(value) not in ((int,) if name == "steps" else (int, float)):
            raise ValueError(f"{name} is {shown(value)}")
    return Trial(**values)


def _alike(line: str, head: str) -> bool:
    """Whether two lines state the same settings; 0 and 0.0 are one number."""
    try:
        return bool(parsed(line) == parsed(head))
    except ValueError:
        return False


class Ledger:
    """A file of finished trials, one JSON object a line, under the settings that they belong to.

    Parameters
    ----------
    path : created with its folder where it is not there. It grows at its end alone: several searches may share it.
    settings : anything that a trial's outcome depends on beside its own.

    Raises
    ------
    RunError
        The file belongs to other settings, is damaged before its last line, or cannot be written.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.trials = path_of(path, "out"), list[Trial]()
        # A link stays one; the file that it leads to grows.
        self._file = Path(os.path.realpath(self.path))
        self._head = json.dumps(settings, sort_keys=True)
        # What waits for the disk to have room.
        self._waiting = list[Trial]()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                sync_folder(self._file.parent)
            text = read_whole(self._file, MAX_RECORDS).decode("utf-8-sig")
            # New, or its process was killed before it had a whole line.
            if "\n" not in text and (self._head.startswith(text) or _alike(text, self._head)):
                self._append()
                return
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{self.path}: {getattr(error, 'strerror', None) or error}") from None
        self._read(text.split("\n"))

    def _read(self, lines: list[str]) -> None:
        if not _alike(lines[0], self._head):
            raise RunError(f"{self.path} is a search with other settings; name another file")
        # The last line may have been cut short; it is run again.
        for number, line in enumerate(lines[1:-1], 2):
            # Of another search that began the file at the same moment.
            if line == self._head:
                continue
            try:
                self.trials.append(_trial(parsed(line)))
            except (ValueError, ConfigError):
                raise RunError(f"{self.path} is damaged in line {number}") from None

    def add(self, trial: Trial) -> None:
        """Write a trial down; OSError where that fails, and it goes with the next one."""
        self.trials.append(trial)
        self._waiting.append(trial)
        # What has been written must be known to be: an interrupt waits.
        with Uninterrupted():
            self._append()

    def _append(self) -> None:
        """Write what waits after the last whole line, which may be another search's."""
        with open(self._file, "ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            whole = file.read(size).rfind(b"\n") + 1
            if whole < size:
                # Of a write that failed in its midst, or whose process was killed.
                file.truncate(whole)
            trials = [json.dumps(asdict(trial)) for trial in (self._waiting if whole else self.trials)]
            lines = trials if whole else [self._head, *trials]
            write_all(file, "".join(f"{line}\n" for line in lines).encode())
            os.fsync(file.fileno())
        self._waiting.clear()
