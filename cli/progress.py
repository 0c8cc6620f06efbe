"""Progress of a command on standard error: a bar on a terminal, plain lines elsewhere, nothing with ``--quiet``."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from fgnumba.cli.figures import PER_CHARACTER, metric_of, number
from fgnumba.cli.message import Terminal, console, say
from fgnumba.cli.signals import Interrupt
from fgnumba.errors import printable
from fgnumba.kernels.machine.compile import on_compile, on_compiled
from fgnumba.training.callbacks import Callback
from fgnumba.training.records import Record

LINES = 10
"""Approximate number of plain progress lines in one run."""


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
            judged = "" if math.isnan(record.validation_loss) else _judged(record)
            say(
                f"step {record.step:>{self._width}}/{self._steps}  loss {number(record.loss)}  {judged}"
                f"{record.step / record.seconds:,.0f} steps/s"
            )


def _judged(record: Record) -> str:
    """Return what validation measured, with spaces after it; of a text, its nats per character are the loss."""
    name, value = metric_of(record) or ("", "")
    if name == PER_CHARACTER:
        return f"validation {value} {name}  "
    return f"validation loss {number(record.validation_loss)}  " + (f"{name} {value}  " if name else "")


class Compiled(Callback):
    """Says that kernels are being compiled, and afterwards how many there were and how long it took.

    Most kernels are compiled before the first step, and the others before the first record.

    Parameters
    ----------
    say : callable
        Prints a line of text.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._removals: tuple[Callable[[], None], ...] = on_compile(self._begin), on_compiled(self._end)
        self._forget()

    def _forget(self) -> None:
        self._first: float | None = None
        self._last, self._count, self._kept = 0.0, 0, 0

    def _begin(self, kernel: str) -> None:
        if self._first is None:
            self._first = time.perf_counter()
            self._say("compiling kernels ...")

    def _end(self, kernel: str, kept: bool) -> None:
        self._last = time.perf_counter()
        self._count, self._kept = self._count + 1, self._kept + kept

    def on_step(self, step: int, result: Any) -> None:
        """Report the kernels that were compiled for the step."""
        if self._count:
            self.report()

    def on_record(self, record: Record) -> None:
        """Report the kernels that were compiled for the record."""
        if self._count:
            self.report()

    def report(self) -> None:
        """Say how many kernels were compiled since the last report, if there were any."""
        if self._first is None or not self._count:
            return
        seconds, count, kept = self._last - self._first, self._count, self._kept
        fate = (
            ", kept for next time"
            if kept == count
            else f", {kept} of them kept for next time"
            if kept
            else ""
        )
        self._forget()
        self._say(f"compiled {count} kernel{'s' if count > 1 else ''} in {seconds:.1f} s{fate}")

    def stop(self) -> None:
        """Report what has not been reported, and listen no more."""
        for remove in self._removals:
            remove()
        self._removals = ()
        self.report()


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
    """Show the progress of the run inside the ``with`` block, and say if kernels must be compiled.

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
    compiled = None
    if not quiet:
        if Terminal().isatty():
            from fgnumba.cli.bar import Bar

            bar = Bar(title)
            shown = Display([bar], bar.say, bar.stop, bar=True)
        else:
            say(title)
            shown.callbacks.append(Lines())
        compiled = Compiled(shown.say)
        shown.callbacks.insert(0, compiled)
    try:
        yield shown
    finally:
        if compiled is not None:
            compiled.stop()
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
