"""Kinds of argument that the checks take, and results of functions that a caller gives."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, shown

Array = npt.NDArray[Any]


def instance(name: str, given: Any, kind: type) -> None:
    """Raise ConfigError unless an argument is an instance of a class.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    given : object
        The argument.
    kind : type
        The class.
    """
    if not isinstance(given, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise ConfigError(f"{name} is {shown(given)}; {article} {kind.__name__} is required")


def function(name: str, given: Any) -> None:
    """Raise ConfigError unless an argument can be called.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    given : object
        The argument.
    """
    if not callable(given):
        raise ConfigError(f"{name} is {shown(given)}; a function is required")


def numbers(name: str, given: Any, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Array]:
    """Return arrays by their names in float64, having checked that they are numbers.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    given : mapping of str to array_like
        The argument.
    shapes : mapping of str to tuple of int, optional
        The names and the shapes that are required. None: any.

    Raises
    ------
    ConfigError
        It is no mapping, an array holds something else than numbers, or names or shapes are others.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"{name} is {shown(given)}; a mapping from names to arrays is required")
    arrays = {}
    for key, values in given.items():
        try:
            arrays[key] = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            raise ConfigError(
                f"{name}: {key!r} is {shown(values)}; an array of numbers is required"
            ) from None
    found = {key: array.shape for key, array in arrays.items()}
    if shapes is not None and found != shapes:
        raise ConfigError(f"{name} has shapes {found}; {dict(shapes)} are required")
    return arrays


def returned(what: str, result: Any) -> Array:
    """Return in float64 what a caller's function returned, having checked that it is numbers.

    Parameters
    ----------
    what : str
        The function; the message begins with it.
    result : object
        What it returned.

    Raises
    ------
    AssertionError
        It is not an array of numbers.
    """
    try:
        return np.asarray(result, np.float64)
    except (TypeError, ValueError):
        message = f"{what} returned {shown(result)}; an array of numbers is expected"
    raise AssertionError(message)
