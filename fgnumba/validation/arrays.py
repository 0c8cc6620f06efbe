"""Turn a user's arrays, of whatever library, into NumPy arrays of numbers."""

from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import DatasetError, DtypeError, ShapeError, shown
from fgnumba.validation import MAX_FLOAT32

REAL = "fiub"
"""The kinds of NumPy dtypes that hold real numbers: float, signed, unsigned and bool."""


def as_array(what: str, value: Any) -> npt.NDArray[Any]:
    """Return `value` as a NumPy array.

    A tensor that records gradients is read without them. bfloat16, which NumPy does not have, is widened to float32.
    An array of objects, such as pandas makes of its nullable columns, becomes an array of numbers if every object is a
    real number. The caller checks the dtype of the result: it may be text, for example.

    Parameters
    ----------
    what : str
        The name of the array, for messages.
    value : object
        A NumPy array, a tensor or an array of another library, a list of numbers, or a number.

    Raises
    ------
    ShapeError
        If it is a ragged list.
    DtypeError
        If it is no array, lies on another device, or is an array of objects some of which are no real numbers.
    DatasetError
        If it is a masked array with masked elements.
    """
    if type(value) is np.ndarray and value.dtype.kind in REAL:
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DatasetError(f"{what} has {np.ma.count_masked(value)} masked elements; every one is required")
    try:
        array = np.asarray(as_tensor(value))
        # This is a dtype that a library added to NumPy: bfloat16 or an even narrower float.
        if array.dtype.kind == "V" and array.dtype.names is None and "float" in array.dtype.name:
            array = array.astype(np.float32)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        if isinstance(error, ValueError) and isinstance(value, list | tuple):
            raise ShapeError(f"{what} is ragged; an array of one shape is required") from None
        raise DtypeError(
            f"{what} is a {type(value).__name__} that NumPy cannot read ({error}); an array of real numbers is required"
        ) from None
    return _of_objects(what, array) if array.dtype.kind == "O" else array


def as_tensor(value: Any) -> Any:
    """Return a tensor without the record of its gradient, a bfloat16 one as float32, and anything else unchanged."""
    if isinstance(value, np.ndarray):
        return value
    if callable(getattr(value, "detach", None)):
        value = value.detach()
    if str(getattr(value, "dtype", "")).endswith("bfloat16") and callable(getattr(value, "float", None)):
        value = value.float()
    return value


def _of_objects(what: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array of objects that are all real numbers as an array of bool, int64 or float64."""
    kinds = {type(item) for item in array.flat}
    wrong = tuple(
        # NumPy makes a length of time a subclass of the whole numbers, but it is no number here.
        kind
        for kind in kinds
        if issubclass(kind, np.timedelta64) or not issubclass(kind, Real | np.bool_)
    )
    if wrong or not kinds:
        for index, item in np.ndenumerate(array):
            if isinstance(item, wrong):
                at = f" at [{', '.join(map(str, index))}]" if index else ""
                raise DtypeError(
                    f"{what} is no array of numbers: {shown(item)}{at}; real numbers are required"
                )
        return array
    if all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return array.astype(np.bool_)
    try:
        if all(issubclass(kind, Integral | np.bool_) for kind in kinds):
            return array.astype(np.int64)
        return array.astype(np.float64)
    except OverflowError:
        raise DtypeError(
            f"{what} holds a number that is too large; numbers of at most 64 bits are required"
        ) from None


def _is_finite(array: npt.NDArray[Any]) -> bool:
    if array.dtype == np.float32 and array.flags.c_contiguous:
        flat = array.reshape(-1)
        # One pass over memory settles most arrays: if the sum of the squares is finite, so is every element.
        with np.errstate(over="ignore", invalid="ignore"):
            if flat.dot(flat) <= MAX_FLOAT32:
                return True
    # NaN fails every comparison. Python's floats are compared because the bound overflows in float16.
    return not array.size or (float(array.min()) >= -MAX_FLOAT32 and float(array.max()) <= MAX_FLOAT32)


def check_finite(what: str, array: npt.NDArray[Any], given: npt.NDArray[Any] | None = None) -> None:
    """Raise DatasetError unless every element is finite in float32.

    Parameters
    ----------
    what : str
        The name of the array, for the message.
    array : ndarray
        The array.
    given : ndarray, optional
        The array from which `array` was converted, of the same size, whose element the message quotes. None (the
        default): `array` itself.
    """
    given = array if given is None else given
    index = first_not_finite(array.reshape(given.shape))
    if index is not None:
        at = ", ".join(map(str, index))
        raise DatasetError(f"{what}[{at}] is {given[index]}; a number that is finite in float32 is required")


def first_not_finite(array: npt.NDArray[Any]) -> tuple[int, ...] | None:
    """Return the index of the first element that is not finite in float32, or None if all are finite.

    No temporary array is made if all elements are finite.
    """
    if array.dtype.kind != "f" or _is_finite(array):
        return None
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(np.float32, copy=False))
    if finite.all():
        return None
    return tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), finite.shape))
