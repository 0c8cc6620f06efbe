"""Errors that a user can cause. Each message is one line: what is wrong, where, and what would be right."""

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

MAX_MESSAGE = 800
"""Characters of the longest message: what an error quotes may be anything that a file holds."""


class FgError(Exception):
    """Base of every error that bad input or bad configuration raises."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class ShapeError(FgError):
    """An array's shape, or a set of parameter names, does not fit the model."""


class DtypeError(FgError):
    """An array's dtype is not the one required."""


class DeviceError(FgError):
    """A device, vector width or thread count that this machine does not have."""


class DatasetError(FgError):
    """A data set that is missing, damaged, or holds impossible values."""


class ConfigError(FgError):
    """An unknown option or key, or a value out of its range."""


class RunError(FgError):
    """A run folder that is not one, is damaged, or would be overwritten."""


@dataclass(frozen=True)
class Diagnosis:
    """What of a pass or an update was the first that is not finite; as text, a part of a line that says so.

    Parameters
    ----------
    quantity : ``input``: x, in float32; ``parameter``; ``primal`` or ``tangent`` of a layer's output, or of what its
        activation is applied to; ``loss`` or ``derivative``: from finite outputs; ``update``: from finite derivatives.
    layer : the node's name, several joined by ``+`` where they are fused; None where it is no layer.
    index : (example, *unit) of a primal, a tangent or the input, (example,) of a loss or a derivative, of a parameter
        its own; () where there is none.
    value : what is there: inf, -inf or NaN.
    direction : index in ``StepResult.directional_derivative`` of a tangent, a derivative, an update; else None.
    text : all that in words.
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
    """Training met a loss or a directional derivative that is not finite.

    Parameters
    ----------
    kept : the model has the last parameters whose loss was finite.
    diagnosis : what was the first that is not finite, and in which layer; None where that was not found.
    """

    def __init__(self, message: str, kept: bool = True, diagnosis: Diagnosis | None = None) -> None:
        super().__init__(message)
        self.kept, self.diagnosis = kept, diagnosis


def printable(message: str) -> str:
    """Return `message` without line breaks, without what a terminal would obey, its middle cut out where it is long."""
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
        # Python shows no number of more digits than 4,300.
        return repr(x) if x.bit_length() <= 400 else f"a number of {x.bit_length()} bits"


_QUOTED = _Quoted()


def shown(value: Any) -> str:
    """Return what a message quotes of a value that may be anything: its repr, shortened."""
    return _QUOTED.repr(value)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"`, or the choices where nothing is near, for the end of a message."""
    choices = sorted(known)
    # The comparison takes as long as the word and its choices are long.
    near = get_close_matches(word, choices[:1000], n=1) if len(word) <= 100 else []
    return f" (did you mean {near[0]!r}?)" if near else f" (choose from {', '.join(choices)})"
