"""Python objects that stand for the scalar functions of the table of partial derivatives."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from fgnumba.functions.auxiliary import quotient
from fgnumba.functions.partials import SCALAR_FUNCTIONS

_OPERATORS: dict[str, tuple[Any, ...]] = {
    "add": (operator.add, operator.iadd),
    "subtract": (operator.sub, operator.isub),
    "multiply": (operator.mul, operator.imul),
    "divide": (operator.truediv, operator.itruediv, np.true_divide, quotient),
    "power": (operator.pow, operator.ipow, pow, math.pow, np.float_power),
    "remainder": (operator.mod, operator.imod, np.mod),
    "floor_divide": (operator.floordiv, operator.ifloordiv),
    "negative": (operator.neg,),
    "positive": (operator.pos,),
    "absolute": (abs, np.fabs, math.fabs),
    "arcsin": (math.asin,),
    "arccos": (math.acos,),
    "arctan": (math.atan,),
    "arctan2": (math.atan2,),
    "arcsinh": (math.asinh,),
    "arccosh": (math.acosh,),
    "arctanh": (math.atanh,),
    "degrees": (np.rad2deg,),
    "radians": (np.deg2rad,),
    "maximum": (max,),
    "minimum": (min,),
    "trunc": (np.trunc,),
}


def _named() -> dict[Any, str]:
    result: dict[Any, str] = {}
    for name in SCALAR_FUNCTIONS:
        for module in (np, math):
            function = getattr(module, name, None)
            if function is not None:
                result[function] = name
        for function in _OPERATORS.get(name, ()):
            result[function] = name
    return result


NAMES = _named()
"""The name in the table of each operator and each function of ``math`` and ``numpy``."""

# `math` has no function for these, and NumPy's take numbers too.
_BY_NUMPY = ("sign", "rint", "cbrt", "square", "logaddexp", "logaddexp2")


def callable_of(name: str, is_complex: bool = False) -> Callable[..., Any]:
    """Return a function of numbers by its name in the table, which Numba compiles."""
    if is_complex:
        by_numpy: Callable[..., Any] = getattr(np, name)
        return by_numpy
    function: Callable[..., Any] = _PREFERRED.get(name) or getattr(math, name, None) or getattr(np, name)
    return function


_PREFERRED: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in _BY_NUMPY},
    "arcsin": math.asin,
    "arccos": math.acos,
    "arctan": math.atan,
    "arctan2": math.atan2,
    "arcsinh": math.asinh,
    "arccosh": math.acosh,
    "arctanh": math.atanh,
    "exp2": np.exp2,
}
