"""Progress of a command on standard error: a bar on a terminal, plain lines elsewhere, nothing with ``--quiet``."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fgnumba.cli.message import Terminal, say
from fgnumba.cli.signals import Interrupt
from fgnumba.errors import printable
from fgnumba.kernels.machine.compile import on_compile
from fgnumba.training.callbacks import Callback
from fgnumba.training.records import Record

if TYPE_CHECKING:
    from rich.console import Console

LINES = 10
"""Approximate number of plain progress lines in one run."""


def console() -> "Console":
    """Return a rich console on standard error for progress bars; writing to it never fails."""
    from rich.console import Console

    # A character that the encoding lacks becomes "?", so that it keeps its width of one column.
    return Console(file=Terminal("replace"))  # type: ignore[arg-type]


class Lines(Callback):
    """Prints about `LINES` plain lines of progress in a run, where standard error is no terminal."""

    def on_start(self, trainer: Any, steps: int) -> None:
        """Record how many steps the run will take, to decide which records are printed."""
        self._every, self._due = steps / LINES, 0.0
        self._steps, self._width = steps, len(str(steps))

    def on_record(self, record: Record) -> None:
        """Print the record as a line if it is due or the run's last."""
        if record.step >= self._due or record.step == self._steps:
            self._due = record.step + self._every * 0.999
            judged = (
                ""
                if math.isnan(record.validation_accuracy)
                else f"validation loss {record.validation_loss:.4f}  accuracy {record.validation_accuracy:.4f}  "
            )
            say(
                f"step {record.step:>{self._width}}/{self._steps}  loss {record.loss:.4f}  {judged}"
                f"{record.step / record.seconds:,.0f} steps/s"
            )


class Bar(Callback):
    """Shows a progress bar with the loss, the validation accuracy, the steps per second and the remaining time.

    Parameters
    ----------
    title : str
        Text to the left of the bar.
    """

    # The bar is updated about every 0.1 s: reading the clock at every step would slow down short steps.
    _SECONDS = 0.1

    def __init__(self, title: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            # A data set's name may contain square brackets, which rich would take for markup.
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn(
                "{task.percentage:>3.0f} %  loss {task.fields[loss]}  accuracy {task.fields[accuracy]}"
            ),
            TextColumn("{task.fields[speed]} steps/s"),
            TimeRemainingColumn(),
            console=console(),
            refresh_per_second=10,
        )
        self._title = title
        self._every = self._next = 1
        self._total = 0.0

    def on_start(self, trainer: Any, steps: int) -> None:
        """Show an empty bar."""
        self.on_resume(trainer, steps, 0)

    def on_resume(self, trainer: Any, steps: int, done: int) -> None:
        """Show a bar that is filled as far as the run has come."""
        self._progress.start()
        self._task = self._progress.add_task(
            self._title, total=steps, completed=done, loss="-", accuracy="-", speed="-"
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
            loss=f"{self._total / self._every:.4f}",
            speed=f"{(step - self._first) / (now - self._began):,.0f}",
        )
        self._total = 0.0
        elapsed = max(now - self._clock, 1e-6)
        self._every = max(1, min(4 * self._every, round(self._every * self._SECONDS / elapsed)))
        self._next, self._clock = step + self._every, now

    def on_record(self, record: Record) -> None:
        """Show the accuracy on the validation data."""
        accuracy = record.validation_accuracy
        shown = "-" if math.isnan(accuracy) else f"{accuracy:.4f}"
        self._progress.update(self._task, completed=record.step, accuracy=shown)

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()


@dataclass
class Display:
    """The place where a run's progress is shown.

    Parameters
    ----------
    callbacks : list of Callback
        Callbacks to pass to ``Trainer.fit``; they show the progress.
    say : callable
        Prints a line of text, above the bar if there is one.
    stop : callable
        Removes the bar and restores the terminal. Called without arguments.
    bar : bool
        Whether a bar is shown. Default: False.
    """

    callbacks: list[Callback]
    say: Callable[[str], None]
    stop: Callable[[], None]
    bar: bool = False


@contextmanager
def progress(quiet: bool, title: str) -> Iterator[Display]:
    """Show the progress of the run inside the ``with`` block, and say once if kernels must be compiled.

    Parameters
    ----------
    quiet : bool
        Whether to show no progress.
    title : str
        Description of the run: text beside the bar, or the first line.

    Yields
    ------
    Display
        The callbacks to pass to ``Trainer.fit``, and functions that print and clean up.
    """
    title, shown = printable(title), Display([], say, lambda: None)
    said: list[str] = []

    def say_once(kernel: str) -> None:
        if not said:
            say("compiling kernels, once for this machine ...")
        said.append(kernel)

    stop_listening = (lambda: None) if quiet else on_compile(say_once)
    if not quiet:
        if Terminal().isatty():
            bar = Bar(title)
            shown = Display([bar], bar.say, bar.stop, bar=True)
        else:
            say(title)
            shown.callbacks.append(Lines())
    try:
        yield shown
    finally:
        stop_listening()
        shown.stop()


@contextmanager
def interruptible(display: AbstractContextManager[Callable[[str], None]]) -> Iterator[Callable[[str], None]]:
    """Add the handling of signals to a display.

    Parameters
    ----------
    display : context manager
        A display, such as :func:`spinner`, that gives a function to call with the description of each step.

    Yields
    ------
    callable
        The display's function, which also raises a signal whose exception Python has dropped.
    """
    with Interrupt() as interrupt, display as show:

        def advance(description: str) -> None:
            interrupt.check()
            show(description)

        yield advance


@contextmanager
def steps_bar(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show the progress of a command with a known number of parts: a bar on a terminal, a line for each part elsewhere.

    Parameters
    ----------
    title : str
        Name of the whole.
    total : int
        Number of parts.

    Yields
    ------
    callable
        Function to call with the description of each part before it begins.
    """
    title = printable(title)
    if not Terminal().isatty():
        done = 0

        def line(description: str) -> None:
            nonlocal done
            done += 1
            say(f"{title} {done}/{total}: {description}")

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console(),
    )
    with bar:
        task = bar.add_task(title, total=total)
        count = 0

        def advance(description: str) -> None:
            nonlocal count
            bar.update(task, description=f"{title} {description}", completed=count)
            count += 1

        yield advance
        bar.update(task, completed=total)


@contextmanager
def spinner(title: str) -> Iterator[Callable[[str], None]]:
    """Show what a command is doing: on a terminal the latest description, elsewhere a line for each.

    Parameters
    ----------
    title : str
        Name of the whole.

    Yields
    ------
    callable
        Function to call with each description.
    """
    title = printable(title)
    if not Terminal().isatty():
        yield lambda description: say(f"{title}: {description}")
        return
    from rich.markup import escape

    screen = console()
    wheel = "line" if screen.options.ascii_only else "dots"
    with screen.status(escape(title), spinner=wheel) as status:
        yield lambda description: status.update(escape(f"{title}: {description}"))
