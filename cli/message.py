"""Output of the commands: messages on standard error and results on standard output.

Both work whatever the two streams lead to: a terminal, a full disk, a pipe whose reader has ended, or nothing at all.
"""

import contextlib
import io
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, TextIO

import click

from fgnumba.errors import FgWarning, RunError, printable

if TYPE_CHECKING:
    from rich.console import Console

ESCAPED = "backslashreplace"
"""Error handler of encodings: a character that a stream cannot encode is written as an escape such as ``\\u2192``."""


def prepare() -> None:
    """Make standard input, output and error usable, even if the process was started without some of them.

    The next file that is opened would otherwise get the descriptor of a closed stream, and what a library prints would
    end up in a log or a model. So a missing stream is connected to ``/dev/null``.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # `open` takes the lowest free descriptor, which is this one, since those below it are taken. Child
            # processes inherit it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        # `sys.__stdout__` and its like, the streams that Python started with, too: some libraries use these.
        for attribute in (name, f"__{name}__"):
            if getattr(sys, attribute) is None:
                setattr(sys, attribute, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def show_warnings() -> None:
    """Print every FgWarning as one line on standard error, and other warnings as Python does."""
    shown_before = warnings.showwarning

    def showwarning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, FgWarning):
            say(printable(f"fgtrain: warning: {message}"))
        else:
            shown_before(message, category, filename, lineno, file, line)

    warnings.showwarning = showwarning
    warnings.simplefilter("always", FgWarning)


def say(message: str) -> None:
    """Print a line on standard error, and drop it where that is impossible.

    A run must go on when the reader of its messages has ended or the disk that they go to is full. The line does not
    pass through a buffered stream: what such a stream could not write would fail again when the process ends, and
    another thread may be writing to it.

    Parameters
    ----------
    message : str
        Text without a final line break.
    """
    Terminal().write(f"{message}\n")


class Terminal(io.TextIOBase):
    """Standard error as a stream that never fails: text that cannot be written is dropped.

    Parameters
    ----------
    errors : str
        Error handler for characters that the stream's encoding lacks, as ``str.encode`` takes it. Default:
        ``"backslashreplace"``.
    """

    def __init__(self, errors: str = ESCAPED) -> None:
        self._errors = errors

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of standard error."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether standard error is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return bool(self._stream.isatty())
        return False

    @property
    def _stream(self) -> Any:
        # While a progress bar is shown, rich replaces sys.stderr by a stream that has no encoding and is no terminal.
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)

    def fileno(self) -> int:
        """Return the file descriptor of standard error, 2."""
        return 2

    def writable(self) -> bool:
        """Return True: the stream accepts text at any time."""
        return True

    def write(self, text: str) -> int:
        """Write `text` as far as possible, and return its length in characters in any case."""
        rest = text.encode(self.encoding, self._errors)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[os.write(2, rest) :]
        return len(text)


def console() -> "Console":
    """Return a rich console on standard error for progress bars; writing to it never fails."""
    from rich.console import Console

    # A character that the encoding lacks becomes "?", so that it keeps its width of one column.
    return Console(file=Terminal("replace"))  # type: ignore[arg-type]


def show(text: str) -> None:
    """Print a result on standard output.

    Parameters
    ----------
    text : str
        The result, without a final line break.

    Raises
    ------
    click.exceptions.Exit
        The reader of standard output has ended, as ``head`` does after some lines. The command exits with status 1
        and prints no message.
    RunError
        The result cannot be written for another reason, such as a full disk.
    """
    write(f"{text}\n")


def write(text: str) -> None:
    """Print a part of a result on standard output at once, without a line break; fail as :func:`show` does.

    Parameters
    ----------
    text : str
        The part.
    """
    error = _print(text, end="")
    if isinstance(error, BrokenPipeError):
        raise click.exceptions.Exit(1)
    if error is not None:
        raise RunError(f"standard output: {getattr(error, 'strerror', None) or error}")


def tell(text: str) -> None:
    """Print a summary on standard output, and ignore a failure, since the command's result is in its files."""
    _print(text)


def finish() -> None:
    """Flush standard output; where that fails, drop the rest and leave the exit status unchanged."""
    _print("", end="")


def _print(text: str, end: str = "\n") -> Exception | None:
    """Print, and return the error where that failed, else None."""
    try:
        print(text, end=end, flush=True)
    except (OSError, ValueError) as error:
        # What the stream still buffers would fail again when the process ends, so it goes to /dev/null.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
            sys.stdout.flush()
        return error
    return None
