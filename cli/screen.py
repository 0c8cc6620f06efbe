"""The screen that results are printed on: its width, and the characters that it can show."""

import contextlib
import shutil
import sys

NARROW, WIDE = 40, 120


def columns() -> int | None:
    """Return the width of the terminal in characters, or None where standard output is no terminal."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout.isatty():
            return max(NARROW, shutil.get_terminal_size((80, 24)).columns)
    return None


def can_print(text: str) -> bool:
    """Return whether standard output can encode a text.

    Parameters
    ----------
    text : str
        The text.
    """
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True
