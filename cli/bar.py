"""The progress bar of a training run: one line that fits the terminal, with fewer or shorter parts on a narrow one."""

import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.progress import Progress, Task
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fgnumba.cli.figures import metric_of, number
from fgnumba.cli.message import console
from fgnumba.training.callbacks import Callback
from fgnumba.training.records import Record

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

SHORTEST, LONGEST = 8, 40
"""Smallest and largest width of the bar itself, in columns."""
GAP = 2
_UNKNOWN = "-"


class Bar(Callback):
    """Shows a progress bar with the loss, the validation accuracy, the steps per second and the remaining time.

    Parameters
    ----------
    title : str
        Description of the run, a line above the bar.
    """

    # The bar is updated about every 0.1 s: reading the clock at every step would slow down short steps.
    _SECONDS = 0.1

    def __init__(self, title: str) -> None:
        self._progress = _Line(console=console(), refresh_per_second=10)
        self._title = title
        self._every = self._next = 1
        self._total = 0.0

    def on_start(self, trainer: Any, steps: int) -> None:
        """Show an empty bar."""
        self.on_resume(trainer, steps, 0)

    def on_resume(self, trainer: Any, steps: int, done: int) -> None:
        """Show a bar that is filled as far as the run has come."""
        self.say(self._title)
        self._progress.start()
        self._task = self._progress.add_task(
            "", total=steps, completed=done, loss=_UNKNOWN, metric=None, speed=_UNKNOWN
        )
        self._first, self._next = done, done + 1
        self._clock = self._began = time.perf_counter()

    def on_step(self, step: int, result: Any) -> None:
        """Add the step's loss to the mean, and update the bar when it is due."""
        self._total += result.loss
        if step < self._next:
            return
        now = time.perf_counter()
        self._progress.update(
            self._task,
            completed=step,
            loss=number(self._total / self._every),
            speed=f"{(step - self._first) / (now - self._began):,.0f}",
        )
        self._total = 0.0
        elapsed = max(now - self._clock, 1e-6)
        self._every = max(1, min(4 * self._every, round(self._every * self._SECONDS / elapsed)))
        self._next, self._clock = step + self._every, now

    def on_record(self, record: Record) -> None:
        """Show the accuracy, or another metric, on the validation data; at the end of a run that on the test data."""
        self._progress.update(self._task, completed=record.step, metric=metric_of(record))

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()


class _Line(Progress):
    """A progress display whose only task is one line, laid out for the width of the terminal."""

    def get_renderables(self) -> "Iterable[RenderableType]":
        for task in self.tasks:
            yield _Row(task)


class _Row:
    def __init__(self, task: Task) -> None:
        self._task = task

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        task = self._task
        figures = fitting(figures_of(task), options.max_width - SHORTEST)
        width = max(0, min(LONGEST, options.max_width - len(figures)))
        row = Table.grid(padding=0)
        row.add_column(width=width)
        row.add_column(no_wrap=True, overflow="crop")
        bar = ProgressBar(task.total, task.completed, width=width)
        row.add_row(bar, Text(figures, no_wrap=True, overflow="crop"))
        yield row


def figures_of(task: Task) -> list[list[str]]:
    """Return the figures beside the bar in several wordings, the longest first and each shorter than the one before.

    Parameters
    ----------
    task : Task
        The task, with the fields `loss`, `metric` (None, or the name and the value of a metric) and `speed`.
    """
    share, loss = f"{task.percentage:>3.0f} %", f"loss {task.fields['loss']}"
    name, value = task.fields["metric"] or ("", "")
    metric = [f"{name} {value}"] if name else []
    short = [f"{'acc' if name == 'accuracy' else name[:8]} {value}"] if name else []
    speed, left = task.fields["speed"], time_left(task)
    steps = f"{int(task.completed):,}/{int(task.total or 0):,}"
    return [
        [steps, share, loss, *metric, f"{speed} steps/s", f"{left} left"],
        [share, loss, *metric, f"{speed} steps/s", f"{left} left"],
        [share, loss, *short, f"{speed}/s", f"{left} left"],
        [share, loss, *short, f"{left} left"],
        [share, loss, left],
        [share, left],
        [share],
    ]


def fitting(wordings: list[list[str]], width: int) -> str:
    """Return the first wording that `width` columns hold, with gaps between its parts and before them.

    Parameters
    ----------
    wordings : list of list of str
        The parts of each wording, the longest wording first. The last one is taken where none fits.
    width : int
        Number of columns.
    """
    lines = ["".join(f"{' ' * GAP}{part}" for part in parts) for parts in wordings]
    return next((line for line in lines if len(line) <= width), lines[-1])


def time_left(task: Task) -> str:
    """Return the remaining time of a task as minutes and seconds, ``1:05``, or with hours, ``2:01:05``."""
    seconds = task.time_remaining
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
