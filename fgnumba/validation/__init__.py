"""Checks of a user's arguments.

Each check returns the argument as Python's own number or flag, or raises a one-line error that names the argument.

A scalar of an array library, or an array without dimensions, is accepted in place of Python's number, but is never
kept, because NumPy's arithmetic wraps: ``np.uint8(255) + 1`` is 0, and a buffer of that size would be too small. Code
stores and computes with the number that the check returned. A frozen dataclass stores it by :func:`store`.
"""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from fgnumba.errors import ConfigError, shown

MAX_WHOLE = (1 << 63) - 1
"""The greatest whole number that the kernels compute with."""

MAX_FLOAT32 = 3.4028234663852886e38


def store(owner: Any, **checked: Any) -> None:
    """Set fields of a frozen dataclass to the values that the checks of them returned."""
    for name, value in checked.items():
        object.__setattr__(owner, name, value)


def plain(value: Any) -> Any:
    """Return a scalar of an array library as Python's own number or flag, and anything else unchanged.

    A scalar has no dimensions: ``np.uint8(3)``, ``np.array(3)``, a tensor of shape (). For a length of time and for a
    masked number, which are no numbers, None is returned.
    """
    if type(value).__name__ == "MaskedConstant":
        # This is numpy.ma.masked, which stands for a missing number but would give 0.
        return None
    if getattr(value, "ndim", None) != 0 or not callable(getattr(value, "item", None)):
        return value
    if getattr(getattr(value, "dtype", None), "kind", "f") in ("m", "M"):
        return None
    return value.item()


def as_whole(value: Any) -> int | None:
    """Return a whole number as an int, and None for anything else, a flag among them."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, Integral):
        return None
    return int(number)


def whole_number(name: str, value: Any, low: int = 1, high: float | None = None) -> int:
    """Return `value` as an int, after checking that it is a whole number in its range.

    Parameters
    ----------
    name : str
        The name of the argument, for the message.
    value : object
        The argument.
    low : int, optional
        The least number allowed. By default 1.
    high : float, optional
        The greatest number allowed. By default 2**63 - 1.

    Raises
    ------
    ConfigError
        If it is not.
    """
    most = MAX_WHOLE if high is None else high
    if type(value) is int and low <= value <= most:
        return value
    number = as_whole(value)
    if number is not None and low <= number <= most:
        return number
    bound = f"from {low} to {high}"
    if high is None:
        bound = f"of at least {low}" + (" and below 2**63" if number is not None and number > most else "")
    raise ConfigError(f"{name} is {shown(value)}; a whole number {bound} is required")


def real_number(name: str, value: Any, above_zero: bool = False, below: float = math.inf) -> float:
    """Return `value` as a float, after checking that it is a finite number, 0 or above, and in its range.

    Parameters
    ----------
    name : str
        The name of the argument, for the message.
    value : object
        The argument.
    above_zero : bool, optional
        Whether 0 is refused. By default it is allowed.
    below : float, optional
        The number must be less than this. By default infinity.

    Raises
    ------
    ConfigError
        If it is not.
    """
    if type(value) is float and 0 <= value < below and not (above_zero and value == 0):
        return value
    number = as_float(value)
    # The value itself is compared with 0 too: a number of another type that is barely negative rounds to 0.0.
    if number is not None and plain(value) >= 0 and number < below and not (above_zero and number == 0):
        return number
    bound = "above 0" if above_zero else "0 or above"
    bound += "" if below == math.inf else f" and below {below:g}"
    raise ConfigError(f"{name} is {shown(value)}; a finite number {bound} is required")


def as_float(value: Any) -> float | None:
    """Return a real number (``numbers.Real``, but no flag) as a float, and None for anything else.

    None is also returned for a number that is too large for a float.
    """
    if type(value) is float:
        return value
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, Real):
        return None
    try:
        return float(number)
    except OverflowError:
        return None


def optional(check: Callable[..., Any], name: str, value: Any, *bounds: Any, **more: Any) -> Any:
    """Return None if `value` is None, and else what `check` returns for it."""
    return None if value is None else check(name, value, *bounds, **more)


def flag(name: str, value: Any, choices: str = "true or false") -> bool:
    """Return `value` as a bool, after checking that it is true or false.

    Parameters
    ----------
    name : str
        The name of the argument, for the message.
    value : object
        The argument.
    choices : str, optional
        How the message writes the two choices. By default "true or false".

    Raises
    ------
    ConfigError
        If it is not.
    """
    truth = plain(value)
    if not isinstance(truth, bool):
        raise ConfigError(f"{name} is {shown(value)}; {choices} is required")
    return truth


def several(value: Any) -> tuple[Any, ...] | None:
    """Return a tuple, a list, a range or an array of at least one dimension as a tuple, and None for anything else."""
    if isinstance(value, tuple | list | range):
        return tuple(value)
    if (getattr(value, "ndim", None) or 0) >= 1 and callable(getattr(value, "tolist", None)):
        return tuple(value)
    return None
