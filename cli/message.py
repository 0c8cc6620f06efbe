"""What commands print: messages on standard error, results on standard output, whatever these lead to."""

import contextlib
import io
import os
import sys
from typing import Any

import click

from fgnumba.errors import RunError

ESCAPED = "backslashreplace"
"""How characters are written that the encoding of a stream does not have."""


def prepare() -> None:
    """Make standard input, output and error usable, whatever the process was begun with.

    A descriptor that is closed would be the next file's that is opened: what a library prints would go into a log or a
    model. So each that is missing leads nowhere, as with ``>/dev/null``.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest that is free: this one, since those below it are taken. Children have it, too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        # Python's own names for what there was at the start, too: not all libraries ask the others.
        for attribute in (name, f"__{name}__"):
            if getattr(sys, attribute) is None:
                setattr(sys, attribute, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def say(message: str) -> None:
    """Print a line; a run outlives its reader, and the disk that its messages go to.

    Not by a buffered stream: what that could not write would fail once more when the process ends, and another thread
    may be writing to it.
    """
    Terminal().write(f"{message}\n")


class Terminal(io.TextIOBase):
    """Standard error as a stream that never fails; what cannot be written is dropped.

    Parameters
    ----------
    errors : how characters are written that its encoding does not have.
    """

    def __init__(self, errors: str = ESCAPED) -> None:
        self._errors = errors

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of standard error."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether standard error is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return bool(self._stream.isatty())
        return False

    @property
    def _stream(self) -> Any:
        # While a bar is shown, another stream, which has no encoding and is no terminal, stands in its place.
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)

    def fileno(self) -> int:
        """Return the descriptor."""
        return 2

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write all of `text`, as far as that can be done."""
        rest = text.encode(self.encoding, self._errors)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[os.write(2, rest) :]
        return len(text)


def show(text: str) -> None:
    """Print a result on standard output.

    Raises
    ------
    click.exceptions.Exit
        Its reader has gone, as ``head`` does: status 1, and not a word.
    RunError
        It cannot be written for another reason.
    """
    error = _print(text)
    if isinstance(error, BrokenPipeError):
        raise click.exceptions.Exit(1)
    if error is not None:
        raise RunError(f"standard output: {getattr(error, 'strerror', None) or error}")


def tell(text: str) -> None:
    """Print on standard output what a command can do without: what was asked for is in its files."""
    _print(text)


def finish() -> None:
    """Write what waits for standard output; where that fails it is dropped, and the exit status stays what it is."""
    _print("", end="")


def _print(text: str, end: str = "\n") -> Exception | None:
    """Print, and return why that failed."""
    try:
        print(text, end=end, flush=True)
    except (OSError, ValueError) as error:
        # What waits would fail once more when the process ends.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
            sys.stdout.flush()
        return error
    return None
