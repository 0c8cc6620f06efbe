"""SIGINT and SIGTERM while a model trains: the first ends it after its step, the second at once."""

import os
import signal
from collections.abc import Callable
from types import FrameType


class Signals:
    """Hears both signals while it is entered; one that is ignored, as by a job in the background, stays so.

    Parameters
    ----------
    stop : called at the first. leave : called before the process ends at the second.

    Attributes
    ----------
    number : of the first signal that came, None before.
    """

    def __init__(self, stop: Callable[[], None], leave: Callable[[], None]) -> None:
        self._stop, self._leave = stop, leave
        self.number: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Signals":
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            if before in (signal.default_int_handler, signal.SIG_DFL):
                self._before[number] = before
                signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    @property
    def status(self) -> int:
        """What a process that ends for the signal exits with."""
        assert self.number is not None
        return 128 + self.number

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            self._leave()
            # No handler, no destructor: whatever is under way may be stuck. Files are whole at every moment.
            os._exit(128 + number)
        self.number = number
        self._stop()
        # Not by a buffered stream, which may be the one that was interrupted.
        os.write(2, b"\nstopping after this step; once more to stop at once\n")
