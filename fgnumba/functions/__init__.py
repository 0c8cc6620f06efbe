"""Functions of one's own with exact derivatives by forward mode, and test functions on which to watch them.

Each name is imported when it is first used: compiled functions cannot be made under all of Numba's settings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgnumba.functions.objectives import Beale, Objective, Rosenbrock, beale, rosenbrock

__all__ = ["Beale", "Objective", "Rosenbrock", "beale", "rosenbrock"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module("fgnumba.functions.objectives"), name)
    globals()[name] = value
    return value
