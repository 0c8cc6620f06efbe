"""What a signal must not cut in two: kernels that are compiled, and work that a GPU is asked for piece by piece.

Python runs handlers between two of its own instructions, in the main thread. One that raises in the midst of Numba's
tables would leave them broken for good, and one between two launches half a step.
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
"""Those whose handlers raise, as a rule."""


class Uninterrupted:
    """Holds signals back while it is entered, and lets their handlers run when it is left; nothing in other threads.

    Handlers that are not Python's are left as they are.
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
        """Run the handlers that waited, each of them, whichever raises."""
        if self._heard:
            number, frame = self._heard.pop(0)
            try:
                self._before[number](number, frame)
            finally:
                self._let_through()
