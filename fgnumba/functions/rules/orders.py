"""Tangents in the order of the values beside them.

Functions as ``ravel`` return a view or a copy by the order of an array's elements. They must do the same to its
tangents, or what is written to one of the two would change the other.
"""

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from fgnumba.functions.registry import formula
from fgnumba.functions.rules.sources import defined, lines
from fgnumba.functions.zeros import zeros_beside


def in_order_of(value: Any, tangent: Any, zero: Any) -> Any:
    """Return the tangent of an array, or of a tuple of them, in C or Fortran order as its value. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(in_order_of, strict=False)
def _in_order_of(value: Any, tangent: Any, zero: Any) -> Any:
    if isinstance(value, types.BaseTuple) and isinstance(tangent, types.BaseTuple):
        members = (f"in_order_of(value[{i}], tangent[{i}], zero)" for i in range(len(value)))
        head = "def members(value, tangent, zero):"
        return defined(lines(head, f"    return ({', '.join(members)},)"), ("in_order_of", in_order_of))
    arrays = isinstance(value, types.Array) and isinstance(tangent, types.Array)
    if not arrays or value.layout == tangent.layout:
        return lambda value, tangent, zero: tangent

    def array(value, tangent, zero):
        result = zeros_beside(value, zero)
        for place in np.ndindex(value.shape):
            result[place] = tangent[place]
        return result

    return array


@formula(in_order_of, "&value, *tangent, start", several=True, curved=False)
def _in_order_of_tangent(y, value, tangent, start, d_tangent, zero):
    return in_order_of(value, d_tangent, zero)
