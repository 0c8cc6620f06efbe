"""What the parameters of a function layer begin with: arrays, shapes, numbers, and functions that draw arrays."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, shown
from fgnumba.layers.base import Shape, initial_values
from fgnumba.validation import as_float, whole_number
from fgnumba.validation.arrays import REAL, first_not_finite

Initializer = Callable[[np.random.Generator], Any]
Given = npt.NDArray[Any] | Sequence[int] | float | Initializer

MAX_DIMENSIONS = 4
"""The most dimensions of an input, an output or a parameter."""

MAX_PARAMETERS = 64
"""The most parameters of a function."""


def checked_parameters(given: Any) -> dict[str, Any]:
    """Return what parameters begin with, by name: an array, a shape, or a function; raise ConfigError otherwise."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or len(given) > MAX_PARAMETERS:
        raise ConfigError(
            f"Function: parameters is {shown(given)}; a mapping of at most {MAX_PARAMETERS} names to arrays or shapes "
            "is required"
        )
    found = {}
    for name, value in given.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigError(f"Function: parameters has the name {shown(name)}; a word is required")
        found[name] = _checked_parameter(f"Function: parameters[{name!r}]", value)
    return found


def _checked_parameter(what: str, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        if not 1 <= len(value) <= MAX_DIMENSIONS:
            raise ConfigError(
                f"{what} is {shown(value)}; a shape of 1 to {MAX_DIMENSIONS} whole numbers is required"
            )
        return tuple(whole_number(what, size) for size in value)
    number = as_float(value)
    if number is not None:
        return _checked_array(what, np.array([number]))
    if isinstance(value, np.ndarray):
        return _checked_array(what, value)
    if callable(value):
        # Of a function, the shape is asked for once.
        return Drawn(what, value)
    raise ConfigError(
        f"{what} is {shown(value)}; an array, a shape, a number, or a function of a NumPy generator is required"
    )


def _checked_array(what: str, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if array.dtype.kind not in REAL or not array.size or not 1 <= array.ndim <= MAX_DIMENSIONS:
        raise ConfigError(
            f"{what} is an array {array.shape} of {array.dtype}; real numbers in 1 to {MAX_DIMENSIONS} "
            "dimensions are required"
        )
    wrong = first_not_finite(array)
    if wrong is not None:
        raise ConfigError(
            f"{what} has {array[wrong]} at {wrong}; numbers that are finite in float32 are required"
        )
    copied = np.array(array, np.float32)
    copied.flags.writeable = False
    return copied


class Drawn:
    """A function that draws the initial value of a parameter."""

    def __init__(self, what: str, function: Initializer) -> None:
        self._what, self._function = what, function
        self.shape = self._drawn(same_generator()).shape

    def __call__(self, generator: np.random.Generator) -> npt.NDArray[np.float32]:
        value = self._drawn(generator)
        if value.shape != self.shape:
            raise ConfigError(
                f"{self._what}: the function returned an array of shape {value.shape}, and of {self.shape} before; "
                "one shape is required"
            )
        return value

    def _drawn(self, generator: np.random.Generator) -> npt.NDArray[np.float32]:
        try:
            value = np.asarray(self._function(generator))
        except Exception as error:
            raise ConfigError(f"{self._what}: the function raised {type(error).__name__}: {error}") from None
        return _checked_array(self._what, value)


def shape_of(given: Any) -> Shape:
    """Return the shape of a parameter, given what it begins with."""
    shape: Shape = given if isinstance(given, tuple) else given.shape
    return shape


def initial_value(given: Any, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return the array that a parameter begins with."""
    if isinstance(given, tuple):
        if len(given) == 1:
            return np.zeros(given, np.float32)
        return initial_values({"weight": given}, 1.0, generator)["weight"]
    return given(generator) if isinstance(given, Drawn) else given.copy()


def same_generator() -> np.random.Generator:
    """Return a generator that draws the same each time, where the shape alone matters."""
    return np.random.default_rng(0)
