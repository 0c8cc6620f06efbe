"""Functions of single numbers that Numba does not treat as elementwise, and pieces of numbers."""

import math
from typing import Any

import numpy as np
from numba.core import types

from fgnumba.functions.auxiliary import sinc_slope
from fgnumba.functions.registry import composition, composition_by_types, formula, formula_by_types
from fgnumba.functions.rules.sources import defined, lines
from fgnumba.functions.zeros import like, zeros_beside


@formula_by_types(np.sinc, "*x", several=True)
def _sinc(y: Any, x: Any, dx: Any, zero: Any) -> Any:
    if not isinstance(x, types.Array):
        return lambda y, x, dx, zero: dx * like(zero, sinc_slope(x))

    def sinc(y, x, dx, zero):
        result = zeros_beside(y, zero)
        for place in np.ndindex(x.shape):
            result[place] = dx[place] * like(zero, sinc_slope(x[place]))
        return result

    return sinc


@formula_by_types(
    np.nan_to_num, "*x, copy=True, nan=0.0, posinf=None, neginf=None", several=True, curved=False
)
def _nan_to_num(y: Any, x: Any, copy: Any, nan: Any, posinf: Any, neginf: Any, dx: Any, zero: Any) -> Any:
    # Without a copy it would change its argument.
    if not (isinstance(copy, types.Literal) and copy.literal_value):
        return None
    arguments = "y, x, copy, nan, posinf, neginf, dx, zero"
    if not isinstance(x, types.Array):
        return defined(lines(f"def nan_to_num({arguments}):", "    return dx if np.isfinite(x) else zero"))
    return defined(
        lines(
            f"def nan_to_num({arguments}):",
            "    result = zeros_beside(y, zero)",
            "    for place in np.ndindex(x.shape):",
            "        if np.isfinite(x[place]):",
            "            result[place] = dx[place]",
            "    return result",
        )
    )


@formula(np.unwrap, "*p, discont=None, axis=-1, period=6.283185307179586", several=True, curved=False)
def _unwrap(y, p, discont, axis, period, dp, zero):
    return dp.copy()


@composition(divmod, "*a, *b")
@composition(np.divmod, "*a, *b")
def _divmod(a, b):
    return a // b, a % b


@formula(math.frexp, "*x", several=True, curved=False)
def _frexp(y, x, dx, zero):
    return dx * like(zero, math.ldexp(1.0, -y[1])), None


@composition(np.linspace, "*start, *stop, num=50")
def _linspace(start, stop, num):
    result = np.empty(num)
    for index in range(num):
        part = index / max(num - 1, 1)
        result[index] = start * (1.0 - part) + stop * part
    return result


@composition(np.logspace, "*start, *stop, num=50")
def _logspace(start, stop, num):
    result = np.empty(num)
    for index in range(num):
        part = index / max(num - 1, 1)
        result[index] = 10.0 ** (start * (1.0 - part) + stop * part)
    return result


@composition(np.geomspace, "*start, *stop, num=50")
def _geomspace(start, stop, num):
    result = np.empty(num)
    for index in range(num):
        part = index / max(num - 1, 1)
        result[index] = start * (stop / start) ** part
    return result


@composition_by_types(np.vander, "*x, N=None, increasing=False")
def _vander(x: Any, n: Any, increasing: Any) -> Any:
    count = "len(x)" if n is types.none else "n"
    return defined(
        lines(
            "def vander(x, n, increasing):",
            f"    columns = {count}",
            "    result = np.empty((len(x), columns), x.dtype)",
            "    for row in range(len(x)):",
            "        for column in range(columns):",
            "            power = column if increasing else columns - 1 - column",
            "            result[row, column] = x[row] ** power",
            "    return result",
        )
    )
