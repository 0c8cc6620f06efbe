"""Errors that a user can cause. Each message is one line: what is wrong, where, and what would be right."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fgnumba.diagnosis import Diagnosis


class FgError(Exception):
    """Base of every error that bad input or bad configuration raises."""


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


class DivergenceError(FgError):
    """Training met a loss or a directional derivative that is not finite.

    Parameters
    ----------
    kept : the model has the last parameters whose loss was finite.
    diagnosis : what was the first that is not finite, and in which layer; None where that was not found.
    """

    def __init__(self, message: str, kept: bool = True, diagnosis: "Diagnosis | None" = None) -> None:
        super().__init__(message)
        self.kept, self.diagnosis = kept, diagnosis


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"`, or the choices where nothing is near, for the end of a message."""
    choices = sorted(known)
    near = get_close_matches(word, choices, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f" (choose from {', '.join(choices)})"
