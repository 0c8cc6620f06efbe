"""Ctrl-C at a repeatable moment: after a given number of calls within the package."""

import contextlib
import inspect
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fgnumba

PACKAGE = str(Path(fgnumba.__file__).parent.resolve())
TOP = str(Path(fgnumba.__file__).parent.parent.resolve())
_PLACES = tuple(f"{TOP}/{name}/" for name in ("fgnumba", "kernels"))
# What happens once in a process would count the first time alone.
_ONCE = ("compile.py", "cache.py", "tuning.py", "workers.py")


def _counts(frame: Any) -> bool:
    code = frame.f_code
    return (
        code.co_filename.startswith(_PLACES)
        and not code.co_filename.endswith(_ONCE)
        and code.co_name != "<module>"
    )


class Countdown:
    """Raises SIGINT after so many events; Python handles signals just there: at a call's beginning and its end."""

    def __init__(self, events: int) -> None:
        self.left, self.where = events, ""

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        # Before a call into C no signal is handled, nor where a generator is closed, which looks as if it went on.
        generator = event in ("call", "return") and frame.f_code.co_flags & inspect.CO_GENERATOR
        if event in ("c_call", "c_exception") or generator or not _counts(frame):
            return
        self.left -= 1
        if self.left < 0:
            sys.setprofile(None)
            self.where = (
                f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name} ({event})"
            )
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def interrupted(events: int) -> Iterator[Countdown]:
    """Interrupt what runs inside after so many events; a KeyboardInterrupt ends there."""
    countdown = Countdown(events)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.setprofile(countdown)
    try:
        yield countdown
    except KeyboardInterrupt:
        if not countdown.where:
            raise
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGINT, before)
