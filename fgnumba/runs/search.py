"""Search for a learning rate by successive halving.

Many learning rates are tried in short runs, the best third of them in runs three times as long, and so on. Each of
these rounds is called a rung, and each run a trial. A trial starts anew and trains on nine tenths of the training data.
It is judged on the rest, which has the same fraction of every class (``fgnumba.datasets.validation_split``); the test
data are not used. The outcome of a trial depends on its settings alone, so that trials in a file of finished ones are
never run again.

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
from typing import Any, NamedTuple

import numpy as np

from fgnumba.datasets import Dataset, validation_split
from fgnumba.errors import ConfigError, DivergenceError, RunError, shown
from fgnumba.estimators import Recipe
from fgnumba.runs.assembly import assemble
from fgnumba.runs.augmentations import augmentation_of
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.jobs import Mapper, in_turn
from fgnumba.storage.durable import sync_folder, write_all
from fgnumba.storage.files import read_whole
from fgnumba.storage.json_lines import parsed
from fgnumba.training.evaluation import evaluate
from fgnumba.training.metrics import MAX_RECORDS
from fgnumba.training.sources import Feed
from fgnumba.uninterrupted import Uninterrupted
from fgnumba.validation import optional, real_number, several, store, whole_number
from fgnumba.validation.paths import path_of

KEPT = 3
"""One in this many trials goes on to the next rung."""

HELD_OUT = 0.1
"""Fraction of the training data that judges the trials: more than in a run, because trials of nearly equal quality must
be told apart."""


@dataclass(frozen=True)
class Trial:
    """A run of the search and its outcome.

    Parameters
    ----------
    learning_rate : float
        Learning rate of the first step.
    fall : float
        The learning rate falls by the factor exp(-fall) from the first step to the last.
    steps : int
        Number of steps.
    accuracy : float or None
        Accuracy on the held-out data, from 0 to 1. None: the run diverged, targets are real numbers, or the data are a
        text.
    loss : float or None
        Mean loss on the held-out data. None: the run diverged.
    """

    learning_rate: float
    fall: float
    steps: int
    accuracy: float | None
    loss: float | None

    def __post_init__(self) -> None:
        # Trials are looked up by the first three numbers. So these become plain floats: 0.1 is not np.float32(0.1).
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
        """Sort key of trials, larger is better: the accuracy if there is one, then the negative loss."""
        if self.loss is None:
            return -1.0, -math.inf
        return 0.0 if self.accuracy is None else self.accuracy, -self.loss


@dataclass(frozen=True)
class Search:
    """The learning rates and decays to search.

    Parameters
    ----------
    lowest : float
        Lowest learning rate. Default: 1e-5.
    highest : float
        Highest learning rate. Default: 1.
    count : int
        Number of learning rates, evenly spaced on a logarithmic scale. Default: 16.
    falls : tuple of float
        Decays to combine with each learning rate: with x, the learning rate falls by the factor exp(-x) over a run.
        Default: ``(4.0,)``.
    steps : int
        Number of steps in a trial of the last rung. Default: 2000.

    Raises
    ------
    ConfigError
        A value is impossible, such as a highest learning rate below the lowest.
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
        """Return (learning rate, fall) of every trial of the first rung; the rates have three significant digits."""
        rates = np.geomspace(self.lowest, self.highest, self.count)
        return list(dict.fromkeys(product((float(f"{rate:.3g}") for rate in rates), self.falls)))

    def rungs(self) -> list[tuple[int, int]]:
        """Return (number of trials, number of steps) of each rung, the first rung first."""
        number = len(self.candidates())
        counts = []
        while True:
            counts.append(number)
            if number <= 2:
                break
            number = max(1, round(number / KEPT))
        return [(n, max(1, self.steps // KEPT ** (len(counts) - 1 - i))) for i, n in enumerate(counts)]


def search(
    config: RunConfig,
    dataset: Dataset,
    what: Search,
    known: Sequence[Trial] = (),
    tell: Callable[[Trial], None] = lambda trial: None,
    chosen: Recipe | None = None,
    mapper: Mapper = in_turn,
) -> list[Trial]:
    """Search for a learning rate by successive halving.

    Parameters
    ----------
    config : RunConfig
        Settings of all trials. Their learning rate, decay and number of steps are replaced.
    dataset : Dataset
        The data set, whose test data are not used.
    what : Search
        The learning rates and decays to search.
    known : sequence of Trial
        Trials that have been run with the same settings and need not be run again. Default: none.
    tell : callable
        Called with each trial that was run, when it has ended. Default: ignores it.
    chosen : Recipe, optional
        The recipe of the estimator, where it is not one of ``fgnumba.estimators.RECIPES``. None (the default) looks up
        the one that `config` names.
    mapper : Mapper
        Runs the trials of a rung. Default: one after another. ``fgnumba.runs.jobs.mapper_of`` gives others; the result
        is the same with each.

    Returns
    -------
    list of Trial
        All trials, the last rung first, and each rung from its best trial to its worst. So the first one is the best.

    Raises
    ------
    ConfigError
        A setting is impossible.
    """
    # The same examples judge every trial, whatever its seed.
    data = validation_split(dataset, HELD_OUT, 0)
    done = {(trial.learning_rate, trial.fall, trial.steps): trial for trial in known}
    candidates, trials = what.candidates(), list[Trial]()
    for number, steps in what.rungs():
        keys = [(rate, fall, steps) for rate, fall in candidates[:number]]
        missing = [key for key in keys if key not in done]
        tasks = [_Task(config, data, *key, chosen) for key in missing]
        with contextlib.closing(mapper(_run, tasks)) as results:
            for index, trial in results:
                done[missing[index]] = trial
                tell(trial)
        rung = sorted((done[key] for key in keys), key=lambda trial: trial.score, reverse=True)
        candidates = [(trial.learning_rate, trial.fall) for trial in rung]
        trials = [*rung, *trials]
    return trials


class _Task(NamedTuple):
    config: RunConfig
    data: Dataset
    rate: float
    fall: float
    steps: int
    chosen: Recipe | None


def _run(task: _Task) -> Trial:
    config, data, rate, fall, steps, chosen = task
    settings = {"learning_rate": rate, "decay": fall / steps, "steps": steps}
    ready = assemble(config.updated(settings), data, chosen)
    trainer, size = ready.trainer, min(config.batch_size, len(data.x_train))
    augment = augmentation_of(ready.config.augment)
    batches = Feed(trainer.model, data, size, config.seed, augment=augment).pairs(0)
    try:
        for _ in range(steps):
            trainer.step(*next(batches))
    except DivergenceError:
        return Trial(rate, fall, steps, None, None)
    judged = evaluate(trainer.model, data, loss=trainer.loss)
    if not math.isfinite(judged.loss):
        return Trial(rate, fall, steps, None, None)
    # A text is judged by its nats per character: the symbol that is likeliest says little of the others.
    accuracy = None if data.streamed else judged.metrics.get("accuracy")
    return Trial(rate, fall, steps, accuracy, judged.loss)


def _trial(values: dict[str, Any]) -> Trial:
    """Return the trial with these values, by the names of its fields; raise ValueError where it is none."""
    names = [field.name for field in fields(Trial)]
    if sorted(values) != sorted(names):
        raise ValueError("another set of fields")
    for name, value in values.items():
        absent = value is None and name in ("accuracy", "loss")
        if not absent and type(value) not in ((int,) if name == "steps" else (int, float)):
            raise ValueError(f"{name} is {shown(value)}")
    return Trial(**values)


def alike(line: str, head: str) -> bool:
    """Return whether two lines of JSON, each of which is an object, hold the same settings.

    0 and 0.0 are the same number. Earlier versions wrote that there was no momentum, which is now left out.
    """
    try:
        ours, theirs = parsed(line), parsed(head)
    except ValueError:
        return False
    for settings in (ours, theirs):
        for name in ("momentum", "nesterov"):
            if settings.get(name) in (0, False):
                del settings[name]
    return bool(ours == theirs)


class Ledger:
    """A file of finished trials.

    The first line holds the settings that all trials share, each further line one trial, as JSON objects. The file only
    grows at its end, so that several searches with the same settings may use it at the same time.

    Parameters
    ----------
    path : Path
        The file. It and its folder are created if they do not exist.
    settings : dict
        Everything that the outcome of a trial depends on, apart from its learning rate, decay and number of steps.

    Attributes
    ----------
    path : Path
        The file.
    trials : list of Trial
        The finished trials.

    Raises
    ------
    RunError
        The file belongs to other settings, is damaged before its last line, or cannot be written.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.trials = path_of(path, "out"), list[Trial]()
        # A link stays a link, and the file that it leads to grows.
        self._file = Path(os.path.realpath(self.path))
        self._head = json.dumps(settings, sort_keys=True)
        # Trials that could not be written yet, because the disk was full.
        self._waiting = list[Trial]()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                sync_folder(self._file.parent)
            text = read_whole(self._file, MAX_RECORDS).decode("utf-8-sig")
            # The file is new, or its process was killed before it had written the whole first line.
            if "\n" not in text and (self._head.startswith(text) or alike(text, self._head)):
                self._append()
                return
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{self.path}: {getattr(error, 'strerror', None) or error}") from None
        self._read(text.split("\n"))

    def _read(self, lines: list[str]) -> None:
        if not alike(lines[0], self._head):
            raise RunError(f"{self.path} is a search with other settings; name another file")
        # A last line without a line break was cut short by a kill; its trial is run again.
        for number, line in enumerate(lines[1:-1], 2):
            # Another search began the file at the same moment and wrote the first line, too.
            if line == self._head:
                continue
            try:
                self.trials.append(_trial(parsed(line)))
            except (ValueError, ConfigError):
                raise RunError(f"{self.path} is damaged in line {number}") from None

    def add(self, trial: Trial) -> None:
        """Write a trial to the file.

        Parameters
        ----------
        trial : Trial
            The trial.

        Raises
        ------
        OSError
            The trial cannot be written, because the disk is full for instance. It is written with the next one.
        """
        self.trials.append(trial)
        self._waiting.append(trial)
        # An interrupt between the write and the note that it succeeded would write the trial twice: it has to wait.
        with Uninterrupted():
            self._append()

    def _append(self) -> None:
        """Write the waiting trials after the last complete line, which may be another search's."""
        with open(self._file, "ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            whole = file.read(size).rfind(b"\n") + 1
            if whole < size:
                # An incomplete last line is what a failed write or a killed process has left.
                file.truncate(whole)
            trials = [json.dumps(asdict(trial)) for trial in (self._waiting if whole else self.trials)]
            lines = trials if whole else [self._head, *trials]
            write_all(file, "".join(f"{line}\n" for line in lines).encode())
            os.fsync(file.fileno())
        self._waiting.clear()
