"""A function whose variables lie in a vector: its value, and several directional derivatives in one pass."""

import inspect
import math
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numba.core.errors import NumbaError
from numba.core.types.containers import BaseTuple
from numba.extending import overload

from fgnumba.errors import ConfigError, DifferentiationError, ShapeError, shown
from fgnumba.functions.differentiable import Differentiable, differentiable
from fgnumba.functions.tangents import Tangents, lane, vector_of, view_of, with_lane
from fgnumba.functions.typed import first_line, place_of
from fgnumba.minimization.variables import Variables, Vector

CHUNK = 8
"""Tangents that a pass carries."""


class Function:
    """A function f whose variables lie in a vector.

    Parameters
    ----------
    f : callable
        The function: one that ``fgnumba.differentiable`` takes, or returned.
    variables : Variables
        The form in which it takes its argument.

    Raises
    ------
    ConfigError
        It is no function of one argument.
    """

    def __init__(self, f: Any, variables: Variables) -> None:
        if not callable(f):
            raise ConfigError(f"f is {shown(f)}; a function of x that returns a number is required")
        self._f: Differentiable = differentiable(f)
        try:
            inspect.signature(self._f.primal.py_func).bind(variables)
        except TypeError as error:
            raise ConfigError(
                f"f cannot be called with one argument, x: {error}; a tuple x0 is one argument, too"
            ) from None
        self._variables = variables
        self.name = str(getattr(f, "__qualname__", type(f).__qualname__))

    def value(self, x: Vector) -> float:
        """Return f(x); raise DifferentiationError, in one line, if Numba cannot compile f for this argument."""
        try:
            return _number(self._f(self._variables.of(x)))
        except NumbaError as error:
            raise DifferentiationError(
                f"{place_of(self._f.primal.py_func)}: Numba cannot compile it for x0: {first_line(error)}"
            ) from error

    def derivatives(self, x: Vector, columns: Vector) -> tuple[float, Vector]:
        """Return f(x), and its derivatives along the columns of a matrix.

        Parameters
        ----------
        x : ndarray
            (n,) float64: the variables.
        columns : ndarray
            (n, T) float64, T at most 8.

        Returns
        -------
        value : float
            f(x).
        derivatives : ndarray
            (T,) float64.
        """
        count = columns.shape[1]
        if count < CHUNK:
            # One number of tangents, so that a function is compiled once.
            columns = np.pad(columns, ((0, 0), (0, CHUNK - count)))
        given = self._variables
        value, found = _pass_of(self._f.tangent)(given.of(x), given.tangents(columns))
        return _number(value), found[:count]


def _number(value: Any) -> float:
    if np.ndim(value) != 0 or isinstance(value, tuple):
        kind = "a tuple" if isinstance(value, tuple) else f"an array of shape {np.shape(value)}"
        raise ShapeError(f"f returns {kind}; minimize needs a number")
    return float(value) if value is not None else math.nan


def vectors(tangents: Any) -> Any:
    """Return arrays (..., T) of tangents, and tuples of them, as arrays of vectors and vectors. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(vectors, strict=False)
def _vectors(tangents: Any) -> Any:
    if isinstance(tangents, BaseTuple):
        if len(tangents) == 1:
            return lambda tangents: (vectors(tangents[0]),)
        return lambda tangents: (vectors(tangents[0]), *vectors(tangents[1:]))
    if tangents.ndim > 1:
        view = view_of(tangents.dtype, CHUNK)
        return lambda tangents: view(tangents)
    zero = vector_of(tangents.dtype, CHUNK)

    def number(tangents: Any) -> Any:
        vector = zero()
        for t in range(CHUNK):
            vector = with_lane(vector, t, tangents[t])
        return vector

    return number


def lanes(tangent: Any) -> Any:
    """Return the tangents of a number as an array. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(lanes, strict=False)
def _lanes(tangent: Any) -> Any:
    if not isinstance(tangent, Tangents):
        # A value on which no tangent has any influence; or no number, which is refused afterwards.
        return lambda tangent: np.zeros(CHUNK)

    def array(tangent: Any) -> Any:
        result = np.empty(CHUNK)
        for t in range(CHUNK):
            result[t] = lane(tangent, t)
        return result

    return array


@cache
def _pass_of(tangent: Any) -> Any:
    """Return the compiled function of (x, tangents) whose value is (f(x), derivatives)."""

    @njit
    def derivatives(x: Any, tangents: Any) -> Any:
        value, found = tangent(x, vectors(tangents))
        return value, lanes(found)

    return derivatives
