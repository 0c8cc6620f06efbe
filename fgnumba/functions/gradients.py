"""Gradients by forward mode: unit tangents in vectors, as many passes as there are vectors."""

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from fgnumba.functions.differentiable import tangent_of
from fgnumba.functions.leaves import copied, leaf_count, seeded, shaped
from fgnumba.functions.tangents import lane, vector_of


@cache
def gradient_function(primal: Any, count: int, position: int, chunk: int, dtype: Any) -> Any:
    """Return the Numba function ``gradient(*arguments)`` of a function with `count` arguments.

    Parameters
    ----------
    primal : numba dispatcher
        The function, whose value is a number.
    count : int
        Number of its arguments.
    position : int
        Index of the argument in which it is differentiated.
    chunk : int
        Number of tangents of a pass.
    dtype : numba.types.Float
        Type of the numbers.
    """
    names = [f"a{index}" for index in range(count)]
    here = names[position]
    values = [f"copied({name})" if name == here else name for name in names]
    tangents = ["seeded(a, zero(), first)" if name == here else "None" for name in names]
    call = ", ".join((*values, *tangents)).replace("seeded(a,", f"seeded({here},")
    source = f"""
def gradient({", ".join(names)}):
    count = leaf_count({here})
    numbers = empty(count, dtype)
    for first in range(0, count, chunk):
        value, tangent = function({call})
        for index in range(min(chunk, count - first)):
            numbers[first + index] = lane(tangent, index)
    return shaped({here}, numbers, 0)
"""
    space = {
        **{"leaf_count": leaf_count, "seeded": seeded, "shaped": shaped, "copied": copied, "lane": lane},
        **{"function": tangent_of(primal), "zero": vector_of(dtype, chunk), "chunk": chunk},
        **{"empty": np.empty, "dtype": np.float32 if str(dtype) == "float32" else np.float64},
    }
    exec(source, space)  # noqa: S102
    return njit(space["gradient"])
