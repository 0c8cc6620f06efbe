"""SIGINT and SIGTERM while a model trains: the first ends it after its step, the second at once."""

import os
import signal
import socket
from collections.abc import Callable
from threading import Thread

from fgnumba.cli.message import say

LEAVING = 1.0
"""Seconds that the terminal has to be restored: it may take nothing any more."""


class Signals:
    """Hears both signals while it is entered; one that is ignored, as by a job in the background, stays so.

    Python runs handlers between two of its own instructions, and a step may be one long instruction. So they are heard
    by a thread, which the system's handler wakes at once.

    Parameters
    ----------
    stop : called at the first. leave : called before the process ends at the second. Both from another thread.

    Attributes
    ----------
    number : of the first signal that came, None before.
    """

    def __init__(self, stop: Callable[[], None], leave: Callable[[], None]) -> None:
        self._stop, self._leave = stop, leave
        self.number: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Signals":
        self._heard, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._thread = Thread(target=self._listen, daemon=True)
        self._thread.start()
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            if before in (signal.default_int_handler, signal.SIG_DFL):
                self._before[number] = before
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
            leaving = Thread(target=self._leave, daemon=True)
            leaving.start()
            leaving.join(LEAVING)
            # No handler, no destructor: whatever is under way may be stuck. Files are whole at every moment.
            os._exit(128 + number)
        self.number = number
        self._stop()
        say("\nstopping after this step; once more to stop at once")
