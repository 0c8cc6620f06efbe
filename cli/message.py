"""Messages on standard error."""

import contextlib
import os


def say(message: str) -> None:
    """Print a line; a run outlives its reader, and the disk that its messages go to.

    Not by a buffered stream: what that could not write would fail once more when the process ends, and another thread
    may be writing to it.
    """
    with contextlib.suppress(OSError):
        os.write(2, f"{message}\n".encode(errors="backslashreplace"))
