"""Rules on scalars that every device compiles: plain Python functions of NumPy scalars, written once.

``@scalar`` makes a function callable from CPU kernels, and lists it for the CUDA target, which is not imported here.
Such a function may call others of its kind.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from numba.extending import register_jitable

Function = TypeVar("Function", bound=Callable[..., Any])

FUNCTIONS: list[Callable[..., Any]] = []
"""All of them, in the order in which they were defined."""


def scalar(function: Function) -> Function:
    """Make `function` callable from the kernels of every device."""
    FUNCTIONS.append(function)
    register_jitable(forceinline=True)(function)
    return function
