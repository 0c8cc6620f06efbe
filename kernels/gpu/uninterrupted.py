"""What SIGINT must not cut in two: work that a GPU is asked for piece by piece, and the count of it."""

import signal
import threading
from types import FrameType
from typing import Any


class Uninterrupted:
    """Holds a SIGINT back while it is entered, and lets it through when it is left; nothing in other threads.

    Python runs handlers between two of its own instructions, in the main thread. One that is not Python's, or is
    ignored, is left as it is.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._came: FrameType | None = None
        self._heard = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                self._before = before
                signal.signal(signal.SIGINT, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard, self._came = True, frame

    def __exit__(self, *_: object) -> None:
        before, self._before = self._before, None
        if before is not None:
            signal.signal(signal.SIGINT, before)
            if self._heard:
                before(signal.SIGINT, self._came)
