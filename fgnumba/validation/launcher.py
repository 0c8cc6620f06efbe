"""Turn the arguments of launchers into Python's own numbers, because NumPy's arithmetic wraps.

A launcher is a function that checks its arguments and returns the operations that run a kernel.
"""

import dataclasses
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from fgnumba.errors import ConfigError, shown
from fgnumba.validation import MAX_WHOLE, as_whole, plain

P = ParamSpec("P")
R = TypeVar("R")


def launcher(bind: Callable[P, R]) -> Callable[P, R]:
    """Return the launcher `bind`, changed so that it computes with Python's numbers whatever numbers it is given.

    NumPy's numbers become Python's, also inside tuples, lists and dataclasses. An argument that is annotated as ``int``
    must be a whole number of at most 64 bits; the changed launcher raises ConfigError if it is not.

    Parameters
    ----------
    bind : callable
        The launcher.
    """
    signature = inspect.signature(bind)
    whole = {name for name, parameter in signature.parameters.items() if parameter.annotation is int}

    @wraps(bind)
    def bound(*args: P.args, **named: P.kwargs) -> R:
        given = signature.bind(*args, **named)
        for name, value in given.arguments.items():
            given.arguments[name] = _whole(name, value) if name in whole else with_plain_numbers(value)
        return bind(*given.args, **given.kwargs)

    return bound


def with_plain_numbers(value: Any) -> Any:
    """Return NumPy's scalars as Python's, also inside tuples, lists and dataclasses, and anything else unchanged."""
    if isinstance(value, np.number | np.bool_):
        return plain(value)
    if isinstance(value, tuple | list):
        items = [with_plain_numbers(item) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        changed = {
            name: plain(item) for name, item in fields.items() if isinstance(item, np.number | np.bool_)
        }
        return dataclasses.replace(value, **changed) if changed else value
    return value


def _whole(name: str, value: Any) -> int:
    number = as_whole(value)
    if number is None or abs(number) > MAX_WHOLE:
        raise ConfigError(f"{name} is {shown(value)}; a whole number of 64 bits is required")
    return number
