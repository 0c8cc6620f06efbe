"""Which functions have a derivative of zero wherever there is one: comparisons, rounding, counting."""

import operator
from typing import Any

import numpy as np
from numba.core import types

from fgnumba.functions.carriers import carries_nothing
from fgnumba.functions.names import NAMES
from fgnumba.functions.partials import SCALAR_FUNCTIONS
from fgnumba.functions.registry import Rule


def is_constant(function: Any) -> bool:
    """Return whether a scalar function is piecewise constant."""
    name = NAMES.get(function)
    return name is not None and SCALAR_FUNCTIONS[name].is_constant


_COMPARISONS = frozenset(
    (
        *(operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
        *(operator.and_, operator.or_, operator.xor, operator.invert, operator.not_),
    )
)


def gives_no_number(function: Any) -> bool:
    """Return whether a function compares or counts, so that its value is no float."""
    # A function under @vectorize lists the types for which it was compiled so far, which says nothing of others.
    return function in _COMPARISONS or (
        isinstance(function, np.ufunc)
        and all(kind[-1] in "?bhilqBHILQ" for kind in function.types if kind[0] != "O")
    )


def is_zero(function: Any, kind: types.Type, rule: Rule | None) -> bool:
    """Return whether the derivative of a call is zero wherever there is one."""
    if is_constant(function) or (rule is not None and rule.kind == "constant"):
        return True
    conversion = isinstance(function, types.NumberClass) or function in (int, bool, len, str)
    known = conversion or function in NAMES or rule is not None or gives_no_number(function)
    return known and carries_nothing(kind)
