"""Scalar rules: plain Python functions of NumPy scalars, written once and compiled for every device.

The decorator ``@scalar`` makes a function callable from CPU kernels, and lists it for the CUDA target, which is not
imported here. A scalar rule may call other scalar rules.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba.extending import register_jitable

Function = TypeVar("Function", bound=Callable[..., Any])

FUNCTIONS: list[Callable[..., Any]] = []
"""All scalar rules, in the order in which they were defined."""


@register_jitable(forceinline=True)
def rounded_product(a: np.float32, b: np.float32) -> np.float32:
    """Return a b, rounded as on the CPU: a GPU's assembler may not fuse this product with a sum."""
    return a * b


REMEMBERED: dict[Callable[..., Any], Callable[..., Any]] = {}
"""Functions of GPU kernels whose results the simulator caches: the caching function, and the original."""


def scalar(function: Function) -> Function:
    """Make `function` callable from the kernels of every device."""
    FUNCTIONS.append(function)
    register_jitable(forceinline=True)(function)
    return function
