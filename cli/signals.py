"""Signals that end a process, such as Ctrl-C's SIGINT.

While a model trains, the first signal ends the run after the current step, and a second one ends it immediately.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable

from fgnumba.cli.message import say

LEAVING = 1.0
"""Seconds in which the terminal must be restored before the process ends: one that hangs takes no output any more."""


_NAMES = (
    *("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK"),
    *("SIGPWR", "SIGALRM", "SIGVTALRM", "SIGPROF"),
)
ENDING = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))
"""Signals that end a run: those that people send, that of a closed terminal, those by which clusters announce that a
job's time is nearly over (SIGUSR1, SIGUSR2, SIGXCPU), that of a failing power supply, and those of timers.

SIGQUIT is not among them: its sender wants the process to end immediately and to leave a memory image."""
INSISTENT = tuple(number for number in ENDING if number.name in ("SIGINT", "SIGTERM", "SIGBREAK"))
"""Signals that end a process immediately if any ending signal came before them.

The others do not, because they may come twice without anybody insisting: a closed terminal's signal comes from the
system and from the shell, and that of a time limit comes every second."""


class Ended(KeyboardInterrupt):
    """Raised where a signal ends a command.

    Parameters
    ----------
    number : int
        Number of the signal.
    hint : str
        What the user can do next, such as running the command again. Empty (the default): nothing to say.
    """

    def __init__(self, number: int, hint: str = "") -> None:
        super().__init__(hint)
        self.number = number


class Interrupt:
    """A context manager that raises `Ended` when a signal of `ENDING` arrives.

    Python prints and drops an exception that is raised in a destructor or in a callback from C, even a
    KeyboardInterrupt. So a signal is also remembered, and :meth:`check`, which commands call between steps, raises it
    again. Signals that are ignored, as those of a background job, stay ignored. The context manager may be nested: a
    signal whose exception was dropped in the outer one is raised when the inner one is entered.
    """

    def __init__(self) -> None:
        self._came: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        self._before = _replaceable()
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    def _note(self, number: int, _: object) -> None:
        if self._came is None or number in INSISTENT:
            self._came = number
            raise Ended(number)

    def check(self) -> None:
        """Raise `Ended` if a signal has arrived."""
        if self._came is not None:
            raise Ended(self._came)


def _replaceable() -> dict[int, object]:
    """Return the signal handlers that may be replaced, by signal: the system's, Python's, and those of an `Interrupt`.

    The result is empty outside the main thread, the only one in which Python sets handlers.
    """
    handlers: dict[int, object] = {}
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            handler = signal.getsignal(number)
            outer = getattr(handler, "__self__", None)
            if isinstance(outer, Interrupt):
                outer.check()
            if isinstance(outer, Interrupt) or handler in (signal.default_int_handler, signal.SIG_DFL):
                handlers[number] = handler
    return handlers


class Signals:
    """A context manager that ends a training run on a signal of `ENDING`.

    The first signal asks the run to stop after the current step; a second one ends the process immediately. Signals
    that are ignored, as those of a background job, stay ignored.

    Python runs signal handlers between two of its own instructions, and a training step may be one long instruction.
    So a thread waits for the signals, which the system's handler wakes immediately.

    Parameters
    ----------
    stop : callable
        Called without arguments, from another thread, at the first signal.
    leave : callable
        Called without arguments, from another thread, at the second signal, before the process ends.
    below_a_bar : bool
        Whether a progress bar is shown, below which the message about the first signal needs a new line. Default:
        False.

    Attributes
    ----------
    number : int or None
        Number of the first signal, or None before one has arrived.
    """

    def __init__(
        self, stop: Callable[[], None], leave: Callable[[], None], below_a_bar: bool = False
    ) -> None:
        self._stop, self._leave = stop, leave
        self._lead = "\n" if below_a_bar else ""
        self.number: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Signals":
        self._before = _replaceable()
        self._heard, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        for number in self._before:
            # Without a handler of Python's own the thread would not be woken.
            signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup)
        self._waker.close()
        self._thread.join()
        self._heard.close()

    @property
    def status(self) -> int:
        """Exit status of a process that the signal ended: 128 plus the signal's number, as in a shell."""
        assert self.number is not None
        return 128 + self.number

    def _listen(self) -> None:
        while number := self._heard.recv(1):
            if number[0] in self._before:
                self._hear(number[0])

    def _hear(self, number: int) -> None:
        if self.number is not None:
            if number not in INSISTENT:
                return
            leaving = threading.Thread(target=self._leave, daemon=True)
            leaving.start()
            leaving.join(LEAVING)
            # Exit without running handlers or destructors, which may hang. Files are complete at every moment.
            os._exit(128 + number)
        self.number = number
        self._stop()
        say(f"{self._lead}stopping after this step; interrupt again to stop at once")
