"""Checks of what a user gives; each returns Python's own number or flag, or raises a one-line error that names it.

A scalar of an array library, or an array of no dimensions, is as good as Python's number, but is never kept: NumPy's
arithmetic wraps, ``np.uint8(255) + 1`` is 0, and a buffer of such a size is too small. What is stored or computed with
is what the check returned; a frozen dataclass takes it by :func:`store`.
"""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from fgnumba.errors import ConfigError, shown

MAX_WHOLE = (1 << 63) - 1
"""The greatest number that kernels count with."""

MAX_FLOAT32 = 3.4028234663852886e38


def store(owner: Any, **checked: Any) -> None:
    """Let the fields of a frozen dataclass hold what the checks of them returned."""
    for name, value in checked.items():
        object.__setattr__(owner, name, value)


def plain(value: Any) -> Any:
    """Return Python's own number or flag for a scalar of an array library; anything else as it is.

    A scalar has no dimensions: ``np.uint8(3)``, ``np.array(3)``, a tensor of shape (). A length of time is no number.
    """
    if type(value).__name__ == "MaskedConstant":
        # Of numpy.ma: its number is 0, and means that there is none.
        return None
    if getattr(value, "ndim", None) != 0 or not callable(getattr(value, "item", None)):
        return value
    if getattr(getattr(value, "dtype", None), "kind", "f") in ("m", "M"):
        return None
    return value.item()


def whole_number(name: str, value: Any, low: int = 1, high: float | None = None) -> int:
    """Return `value` as an int, having checked that it is a whole number from `low` to `high`, or below 2**63."""
    most = MAX_WHOLE if high is None else high
    if type(value) is int and low <= value <= most:
        return value
    number = plain(value)
    is_whole = isinstance(number, Integral) and not isinstance(number, bool)
    if is_whole and low <= number <= most:
        return int(number)
    bound = f"from {low} to {high}"
    if high is None:
        bound = f"of at least {low}" + (" and below 2**63" if is_whole and number > most else "")
    raise ConfigError(f"{name} is {shown(value)}; a whole number {bound} is required")


def real_number(name: str, value: Any, above_zero: bool = False, below: float = math.inf) -> float:
    """Return `value` as a float, having checked that it is a finite number, 0 or above, below `below`."""
    if type(value) is float and 0 <= value < below and not (above_zero and value == 0):
        return value
    number = as_float(value)
    # Compared as it is, too: what lies below 0 by little rounds to 0.
    if number is not None and plain(value) >= 0 and number < below and not (above_zero and number == 0):
        return number
    bound = "above 0" if above_zero else "0 or above"
    bound += "" if below == math.inf else f" and below {below:g}"
    raise ConfigError(f"{name} is {shown(value)}; a finite number {bound} is required")


def as_float(value: Any) -> float | None:
    """Return a real number (``numbers.Real``, no flag) as a float; None for anything else, and beyond every float."""
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
    """Return what `check` returns, None for None."""
    return None if value is None else check(name, value, *bounds, **more)


def flag(name: str, value: Any, choices: str = "true or false") -> bool:
    """Return `value` as a bool, having checked that it is one: `choices` is how messages write that."""
    found = plain(value)
    if not isinstance(found, bool):
        raise ConfigError(f"{name} is {shown(value)}; {choices} is required")
    return found


def several(value: Any) -> tuple[Any, ...] | None:
    """Return a tuple, a list, a range or an array of one dimension or more as a tuple; None for anything else."""
    if isinstance(value, tuple | list | range):
        return tuple(value)
    if (getattr(value, "ndim", None) or 0) >= 1 and callable(getattr(value, "tolist", None)):
        return tuple(value)
    return None
