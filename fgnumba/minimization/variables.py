"""The variables of a function as one vector: a number, an array, or a tuple of these."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DtypeError, ShapeError, shown
from fgnumba.validation.arrays import as_array

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Leaf:
    """A number or an array among the variables.

    Parameters
    ----------
    name : str
        What it is called in messages, such as ``x0[1]``.
    shape : tuple of int
        Its shape; () for a number.
    dtype : numpy dtype
        The dtype with which the function gets it: float32 or float64.
    place : slice
        Its elements in the vector.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    place: slice


class Variables:
    """The variables x of a function, laid out one after another in a vector of float64.

    Parameters
    ----------
    x0 : number, array or tuple
        The point at which a descent begins. A tuple, named or not, holds numbers, arrays and tuples. A float32 array
        stays one; every other array, and a list, becomes float64.

    Attributes
    ----------
    size : int
        Number of elements n.

    Raises
    ------
    DtypeError, ShapeError
        It is something else, or has no elements.
    ConfigError
        An element is not finite.
    """

    def __init__(self, x0: Any) -> None:
        self.size = 0
        self._parts: list[Vector] = []
        self._form = self._laid_out("x0", x0)
        if self.size == 0:
            raise ShapeError("x0 has no elements; a number, an array or a tuple of these is required")
        self.start: Vector = np.concatenate(self._parts)

    def _laid_out(self, name: str, value: Any) -> Any:
        """Return a :class:`Leaf`, or a function that makes a tuple and what makes its items."""
        if isinstance(value, tuple):
            make = type(value)._make if hasattr(value, "_make") else tuple
            return make, [self._laid_out(f"{name}[{i}]", item) for i, item in enumerate(value)]
        if isinstance(value, dict | set | str | bytes) or value is None:
            raise DtypeError(
                f"{name} is a {type(value).__name__}; a number, an array or a tuple of these is required"
            )
        array = as_array(name, value)
        if array.dtype.kind not in "fiu":
            raise DtypeError(f"{name} is {array.dtype}; real numbers are required")
        flat = array.reshape(-1).astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(flat))
        if wrong.size:
            at = ", ".join(str(int(i)) for i in np.unravel_index(int(wrong[0]), array.shape))
            raise ConfigError(f"{name}{f'[{at}]' if at else ''} is {shown(float(flat[wrong[0]]))}; "
                              "finite numbers are required")  # fmt: skip
        narrow = array.ndim > 0 and array.dtype == np.float32
        leaf = Leaf(
            name,
            array.shape,
            np.dtype(np.float32 if narrow else np.float64),
            slice(self.size, self.size + flat.size),
        )
        self._parts.append(flat)
        self.size += flat.size
        return leaf

    def of(self, vector: Vector) -> Any:
        """Return the variables that a vector holds, as the function takes them. Arrays are copies.

        Parameters
        ----------
        vector : ndarray
            (n,) float64.
        """
        return _made(self._form, lambda leaf: _leaf_of(leaf, vector), named=True)

    def tangents(self, columns: Vector) -> Any:
        """Return tangents of the variables, with the T tangents of each element along a last axis, in plain tuples.

        Parameters
        ----------
        columns : ndarray
            (n, T) float64: a tangent in each column.
        """
        count = columns.shape[1]
        return _made(
            self._form,
            lambda leaf: np.ascontiguousarray(
                columns[leaf.place].reshape(*leaf.shape, count), dtype=leaf.dtype
            ),
            named=False,
        )


def _leaf_of(leaf: Leaf, vector: Vector) -> Any:
    if leaf.shape == ():
        return float(vector[leaf.place][0])
    # A value beyond float32 becomes infinite, which the descent then finds in the function's value.
    with np.errstate(over="ignore"):
        return vector[leaf.place].reshape(leaf.shape).astype(leaf.dtype)


def _made(form: Any, make: Any, named: bool) -> Any:
    if isinstance(form, Leaf):
        return make(form)
    into, items = form
    made = [_made(item, make, named) for item in items]
    return into(made) if named else tuple(made)
