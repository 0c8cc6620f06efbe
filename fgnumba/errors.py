"""Errors that a user can cause. Each message is one line that says what is wrong, where, and what would be right."""

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

MAX_MESSAGE = 800
"""The most characters of a message: an error may quote the content of a file, which can be of any length."""


class FgError(Exception):
    """The base class of every error that bad input or bad configuration raises.

    Parameters
    ----------
    message : str, optional
        The message. It is made one printable line of at most 800 characters. By default it is empty.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class ShapeError(FgError):
    """The shape of an array, or a set of parameter names, does not fit the model."""


class DtypeError(FgError):
    """The dtype of an array is not the one required."""


class DeviceError(FgError):
    """The machine does not have the device, the vector width or the number of threads that was asked for."""


class DatasetError(FgError):
    """A data set is missing, is damaged, or holds impossible values."""


class ConfigError(FgError):
    """An option or a key is unknown, or a value is out of its range."""


class CodeError(ConfigError):
    """A file names code that is not trusted, or code that cannot be imported."""


class RunError(FgError):
    """A run folder is damaged, would be overwritten, or is no run folder at all."""


class DifferentiationError(FgError):
    """A function does something that has no derivative rule, or Numba cannot compile it."""


class FgWarning(UserWarning):
    """A warning about input that can be used but is doubtful, such as a class without an example."""


@dataclass(frozen=True)
class Diagnosis:
    """The first number of a training step that is not finite: what it is, where it is, and the same as text.

    Parameters
    ----------
    quantity : str
        What the number is: ``input`` (x, in float32); ``parameter``; ``primal`` or ``tangent`` (an element of a layer's
        output, or of the input of its activation); ``loss`` or ``derivative`` (computed from finite outputs); or
        ``update`` (computed from finite derivatives).
    layer : str or None
        The name of the node, several joined by ``+`` if they are fused; None if the number belongs to no layer.
    index : tuple of int
        Where the number is: (example, *unit) for a primal, a tangent or the input, (example,) for a loss or a
        derivative, and the index in the array for a parameter; () if it has no index.
    value : float
        The number: inf, -inf or NaN.
    direction : int or None
        For a tangent, a derivative or an update, the index of its direction in
        ``StepResult.directional_derivative``; else None.
    text : str
        All of that in words, as a part of the error's message.
    """

    quantity: str
    layer: str | None
    index: tuple[int, ...]
    value: float
    direction: int | None
    text: str

    def __str__(self) -> str:
        return self.text


class DivergenceError(FgError):
    """Training has diverged: a loss or a directional derivative is not finite.

    Parameters
    ----------
    message : str
        The message.
    kept : bool, optional
        Whether the model has the last parameters whose loss was finite. By default True.
    diagnosis : Diagnosis, optional
        The first number that is not finite. By default None: it was not found.
    reached : fgnumba.minimization.minimum.Minimum, optional
        What :func:`fgnumba.minimize` had reached before. By default None: another run has diverged.
    """

    def __init__(
        self, message: str, kept: bool = True, diagnosis: Diagnosis | None = None, reached: Any = None
    ) -> None:
        super().__init__(message)
        self.kept, self.diagnosis, self.reached = kept, diagnosis, reached


def printable(message: str) -> str:
    """Return `message` as one printable line of at most `MAX_MESSAGE` characters.

    Line breaks become spaces, characters that a terminal would obey are escaped, and a long message loses its middle.
    """
    if not message.isprintable():
        joined = " ".join(message.splitlines())
        message = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
    if len(message) <= MAX_MESSAGE:
        return message
    half = MAX_MESSAGE // 2 - 2
    return f"{message[:half]} … {message[-half:]}"


class _Quoted(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict = 3, 8
        self.maxstring = self.maxother = 200

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to print a number of more than 4,300 digits.
        return repr(x) if x.bit_length() <= 400 else f"a number of {x.bit_length()} bits"


_QUOTED = _Quoted()


def shown(value: Any) -> str:
    """Return the repr of `value`, shortened, for a message that quotes it."""
    return _QUOTED.repr(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the end of a message, or all choices if none is like `word`."""
    choices = sorted(known)
    # The time of the comparison grows with the length of the word and the number of choices, so both are limited.
    near = get_close_matches(word, choices[:1000], n=1) if len(word) <= 100 else []
    return f" (did you mean {near[0]!r}?)" if near else f" (choose from {', '.join(choices)})"
