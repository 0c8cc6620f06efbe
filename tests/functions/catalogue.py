"""Every function of ``math`` and ``numpy`` that Numba supports, from Numba's own registries."""

import builtins
import math
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target

MODULES = (
    ("math", math),
    ("np", np),
    ("np.linalg", np.linalg),
    ("np.random", np.random),
    ("", builtins),
)
_BUILTINS = (
    "abs",
    "divmod",
    "enumerate",
    "float",
    "int",
    "len",
    "max",
    "min",
    "pow",
    "range",
    "reversed",
    "round",
    "sum",
    "zip",
)
_CLASSES = (np.ndenumerate, np.ndindex, np.nditer)


@cache
def numba_functions() -> dict[str, Any]:
    """Return the functions by their shortest names; conversions of type and exceptions are not among them."""
    njit(lambda x: np.dot(x, x))(np.ones(2))  # Numba fills its registries when it first compiles.
    context = cpu_target.typing_context
    context.refresh()
    found: dict[str, Any] = {}
    seen: list[Any] = []
    for prefix, module in MODULES:
        names = _BUILTINS if module is builtins else sorted(dir(module))
        for name in sorted(
            names, key=lambda one: (one in ("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh"), one)
        ):
            value = getattr(module, name)
            is_class = isinstance(value, type) and module is not builtins and value not in _CLASSES
            if name.startswith("_") or not callable(value) or is_class or any(value is one for one in seen):
                continue
            if _is_known(context, value):
                found[f"{prefix}.{name}" if prefix else name] = value
                seen.append(value)
    return found


def _is_known(context: Any, value: Any) -> bool:
    try:
        return context.resolve_value_type(value) is not None
    except (ValueError, NumbaError):
        return False
