"""Rules on scalars that every device compiles: plain Python functions of NumPy scalars, written once.

``@scalar`` makes a function callable from CPU kernels, and lists it for the CUDA target, which is not imported here.
Such a function may call others of its kind.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba.extending import register_jitable

Function = TypeVar("Function", bound=Callable[..., Any])

FUNCTIONS: list[Callable[..., Any]] = []
"""All of them, in the order in which they were defined."""


@register_jitable(forceinline=True)
def rounded_product(a: np.float32, b: np.float32) -> np.float32:
    """Return a b, which a GPU's assembler is kept from joining with a sum: rounded as on the CPU."""
    return a * b


REMEMBERED: dict[Callable[..., Any], Callable[..., Any]] = {}
"""Functions of GPU kernels that the simulator calls through a cache, and what they are without it."""


def scalar(function: Function) -> Function:
    """Make `function` callable from the kernels of every device."""
    FUNCTIONS.append(function)
    register_jitable(forceinline=True)(function)
    return function
