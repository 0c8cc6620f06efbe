"""Hold back signals while work is done that must not be cut in two.

Python runs a signal's handler between two of its own instructions, in the main thread. A handler that raises while
Numba compiles a kernel would leave Numba's tables broken for the rest of the process, and one that raises between two
launches on a GPU would leave half a step.
"""

import signal
import threading
from types import FrameType
from typing import Any

_NAMES = (
    *("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK"),
    *("SIGPWR", "SIGALRM", "SIGVTALRM", "SIGPROF"),
)
HELD = tuple(signal.Signals[name] for name in _NAMES if hasattr(signal, name))
"""The signals that are held back: those whose handlers usually raise an exception."""


class Uninterrupted:
    """A context manager that holds signals back inside it, and runs their handlers when it is left.

    It does nothing outside the main thread, where Python runs no handlers. Handlers that are not Python functions are
    left as they are.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._heard: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in HELD:
                before = signal.getsignal(number)
                if callable(before):
                    self._before[number] = before
                    signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard.append((number, frame))

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._let_through()

    def _let_through(self) -> None:
        """Run the handlers of all signals that were held back, even if some of the handlers raise."""
        if self._heard:
            number, frame = self._heard.pop(0)
            try:
                self._before[number](number, frame)
            finally:
                self._let_through()
