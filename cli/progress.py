"""Progress of a training run on standard error: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

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
"""Plain lines of a run, about."""


def console() -> "Console":
    """Return standard error for bars; writing to it never fails."""
    from rich.console import Console

    # What the encoding lacks takes one place in a line, as it would have.
    return Console(file=Terminal("replace"))  # type: ignore[arg-type]


class Lines(Callback):
    """Plain lines."""

    def on_start(self, trainer: Any, steps: int) -> None:
        """Take note of the length of the run."""
        self._every, self._due = steps / LINES, 0.0
        self._steps, self._width = steps, len(str(steps))

    def on_record(self, record: Record) -> None:
        """Print a line where one is due."""
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
    """A bar with loss, accuracy, steps a second and time left."""

    # Clock and screen are looked at every so many steps, more often where steps are slow.
    _SECONDS = 0.1

    def __init__(self, title: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            # A name may hold what would be markup.
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
        """Show the empty bar."""
        self.on_resume(trainer, steps, 0)

    def on_resume(self, trainer: Any, steps: int, done: int) -> None:
        """Show what is done."""
        self._progress.start()
        self._task = self._progress.add_task(
            self._title, total=steps, completed=done, loss="-", accuracy="-", speed="-"
        )
        self._first, self._next = done, done + 1
        self._clock = self._began = time.perf_counter()

    def on_step(self, step: int, result: Any) -> None:
        """Move the bar now and then."""
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
        """Show the accuracy on the validation part."""
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
    """Where a run is shown.

    Parameters
    ----------
    callbacks : what follows the run.
    say : prints a line. stop : leaves the terminal as it was. bar : whether it is a bar.
    """

    callbacks: list[Callback]
    say: Callable[[str], None]
    stop: Callable[[], None]
    bar: bool = False


@contextmanager
def progress(quiet: bool, title: str) -> Iterator[Display]:
    """Show the progress of what runs inside."""
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
    """Show what a display shows; what it gives raises an interrupt that was lost."""
    with Interrupt() as interrupt, display as show:

        def advance(what: str) -> None:
            interrupt.check()
            show(what)

        yield advance


@contextmanager
def steps_bar(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show which of `total` things runs: a bar on a terminal, a line each elsewhere; call what it gives with each."""
    title = printable(title)
    if not Terminal().isatty():
        done = 0

        def line(what: str) -> None:
            nonlocal done
            done += 1
            say(f"{title} {done}/{total}: {what}")

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

        def advance(what: str) -> None:
            nonlocal count
            bar.update(task, description=f"{title} {what}", completed=count)
            count += 1

        yield advance
        bar.update(task, completed=total)


@contextmanager
def spinner(title: str) -> Iterator[Callable[[str], None]]:
    """Show what runs now: on a terminal what is called last, elsewhere a line each time."""
    title = printable(title)
    if not Terminal().isatty():
        yield lambda what: say(f"{title}: {what}")
        return
    from rich.markup import escape

    screen = console()
    wheel = "line" if screen.options.ascii_only else "dots"
    with screen.status(escape(title), spinner=wheel) as status:
        yield lambda what: status.update(escape(f"{title}: {what}"))
