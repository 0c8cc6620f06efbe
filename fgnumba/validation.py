"""Checks of numbers that a user gives; each raises a one-line ConfigError that names the number."""

import contextlib
import math
from numbers import Integral, Real
from typing import Any

from fgnumba.errors import ConfigError, shown


def whole_number(name: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """Return `value` as an int, having checked that it is a whole number from `low` to `high`."""
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if is_whole and low <= value and (high is None or value <= high):
        return int(value)
    bound = f"of at least {low}" if high is None else f"from {low} to {high}"
    raise ConfigError(f"{name} is {shown(value)}; a whole number {bound} is required")


def real_number(name: str, value: Any, above_zero: bool = False, below: float = math.inf) -> float:
    """Return `value` as a float, having checked that it is a finite number, 0 or above, below `below`."""
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    if is_real and 0 <= value < below and not (above_zero and value == 0):
        # A whole number may be beyond every float.
        with contextlib.suppress(OverflowError):
            return float(value)
    bound = "above 0" if above_zero else "0 or above"
    bound += "" if below == math.inf else f" and below {below:g}"
    raise ConfigError(f"{name} is {shown(value)}; a finite number {bound} is required")
