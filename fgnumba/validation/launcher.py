"""What launchers take: Python's own numbers, for NumPy's arithmetic wraps."""

import dataclasses
import inspect
import operator
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from fgnumba.errors import ConfigError, shown

P = ParamSpec("P")
R = TypeVar("R")

MOST = (1 << 63) - 1


def launcher(bind: Callable[P, R]) -> Callable[P, R]:
    """Return a launcher that computes with Python's numbers, whatever kind of number it is given.

    An argument that is annotated as ``int`` must be one that fits into 64 bits, and those inside tuples, lists and
    dataclasses are Python's too.

    Raises
    ------
    ConfigError
    """
    signature = inspect.signature(bind)
    whole = {name for name, one in signature.parameters.items() if one.annotation is int}

    @wraps(bind)
    def bound(*args: P.args, **named: P.kwargs) -> R:
        given = signature.bind(*args, **named)
        for name, value in given.arguments.items():
            given.arguments[name] = _whole(name, value) if name in whole else plain(value)
        return bind(*given.args, **given.kwargs)

    return bound


def plain(value: Any) -> Any:
    """Return NumPy's scalars as Python's, those inside tuples, lists and dataclasses too; all else as it is."""
    if isinstance(value, np.number | np.bool_):
        return value.item()
    if isinstance(value, tuple | list):
        items = [plain(item) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        changed = {name: plain(one) for name, one in fields.items() if isinstance(one, np.number | np.bool_)}
        return dataclasses.replace(value, **changed) if changed else value
    return value


def _whole(name: str, value: Any) -> int:
    try:
        # A flag is a whole number to Python; kernels count.
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or abs(number) > MOST:
        raise ConfigError(f"{name} is {shown(value)}; a whole number of 64 bits is required")
    return number
