"""Signals that end a process: while a model trains, the first ends it after its step, the second at once."""

import os
import signal
import socket
import threading
from collections.abc import Callable

from fgnumba.cli.message import say

LEAVING = 1.0
"""Seconds that the terminal has to be restored: it may take nothing any more."""


_NAMES = (
    *("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK"),
    *("SIGPWR", "SIGALRM", "SIGVTALRM", "SIGPROF"),
)
ENDING = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))
"""People's signals, a closed terminal's, those by which clusters say that time is nearly up, a power supply's, timers'.

Not SIGQUIT: who sends it wants a process that ends at once, and its memory."""
INSISTENT = tuple(number for number in ENDING if number.name in ("SIGINT", "SIGTERM", "SIGBREAK"))
"""Those that end a process at once where another one came before.

A closed terminal's signal comes from the system and from the shell, and that of a limit of time every second."""


class Ended(KeyboardInterrupt):
    """A signal ends what runs.

    Parameters
    ----------
    hint : what can be done about it.
    """

    def __init__(self, number: int, hint: str = "") -> None:
        super().__init__(hint)
        self.number = number


class Interrupt:
    """Raises `Ended` at each signal that ends a process, and at the next step where that was lost.

    Python prints and drops what is raised in a destructor or in a callback from C, a KeyboardInterrupt too. Signals
    that are ignored, as in the background, stay ignored. May be nested; what the outer one lost is raised on entry.
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
        """Raise what was lost."""
        if self._came is not None:
            raise Ended(self._came)


def _replaceable() -> dict[int, object]:
    """Return the handlers that may be replaced, by signal: the system's, Python's, and those of an `Interrupt`.

    None in another thread than the main one, which Python lets set none.
    """
    found: dict[int, object] = {}
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            handler = signal.getsignal(number)
            outer = getattr(handler, "__self__", None)
            if isinstance(outer, Interrupt):
                outer.check()
            if isinstance(outer, Interrupt) or handler in (signal.default_int_handler, signal.SIG_DFL):
                found[number] = handler
    return found


class Signals:
    """Hears these signals while it is entered; one that is ignored, as by a job in the background, stays so.

    Python runs handlers between two of its own instructions, and a step may be one long instruction. So they are heard
    by a thread, which the system's handler wakes at once.

    Parameters
    ----------
    stop : called at the first. leave : called before the process ends at the second. Both from another thread.
    below_a_bar : whether what is said at the first begins on a line of its own.

    Attributes
    ----------
    number : of the first signal that came, None before.
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
            # Some handler of Python's there must be, or the thread is not woken.
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
        """What a process that ends for the signal exits with."""
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
            # No handler, no destructor: whatever is under way may be stuck. Files are whole at every moment.
            os._exit(128 + number)
        self.number = number
        self._stop()
        say(f"{self._lead}stopping after this step; once more to stop at once")
