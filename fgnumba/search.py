"""Learning rates by successive halving: many on a short run, the best third on one three times as long, and so on.

Each trial is a run by itself on nine tenths of the training data, judged by the rest, which has the same share of every
class (``fgnumba.datasets.validation_split``): the test data are not seen. A trial is a function of its settings, so
that what a file of finished trials holds is never run again.

Source: K. Jamieson, A. Talwalkar, arXiv 1502.07943.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fgnumba.assembly import assemble
from fgnumba.configuration import RunConfig
from fgnumba.datasets import Dataset, validation_split
from fgnumba.durable import replace
from fgnumba.errors import ConfigError, DivergenceError, RunError, shown
from fgnumba.estimators import Recipe
from fgnumba.evaluation import evaluate
from fgnumba.files import read_whole
from fgnumba.kernels.paths import path_of
from fgnumba.metrics import MAX_RECORDS, parsed
from fgnumba.validation import optional, real_number, several, store, whole_number

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
    path : created with its folder where it is not there.
    settings : anything that a trial's outcome depends on beside its own.

    Raises
    ------
    RunError
        The file belongs to other settings, is damaged before its last line, or cannot be written.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.trials = path_of(path, "out"), list[Trial]()
        path = self.path
        self._head = head = json.dumps(settings, sort_keys=True)
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                replace(path, f"{head}\n".encode())
                return
            lines = read_whole(path, MAX_RECORDS).decode("utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        if not _alike(lines[0], head):
            raise RunError(f"{path} is a search with other settings; name another file")
        # The last line may have been cut short; it is run again.
        whole = lines[1:-1]
        for number, line in enumerate(whole, 2):
            try:
                self.trials.append(_trial(parsed(line)))
            except (ValueError, ConfigError):
                raise RunError(f"{path} is damaged in line {number}") from None
        if lines[-1]:
            replace(path, "\n".join([head, *whole, ""]).encode())

    def add(self, trial: Trial) -> None:
        """Write a trial down; OSError where that fails, and it goes with the next one."""
        self.trials.append(trial)
        lines = [self._head, *(json.dumps(asdict(one)) for one in self.trials), ""]
        replace(self.path, "\n".join(lines).encode())
