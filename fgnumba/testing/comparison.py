"""Comparisons whose failure says where two arrays differ, and by how much."""

from typing import Any

import numpy as np
import numpy.typing as npt


def compare(
    what: str,
    result: npt.ArrayLike,
    expected: npt.ArrayLike,
    allowed: npt.ArrayLike,
    skipped: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Raise AssertionError unless every entry of `result` is near the expected one.

    Parameters
    ----------
    what : str
        What is compared; the message begins with it.
    result, expected : array_like
        Arrays of one shape. NaN equals NaN, and an infinity equals itself.
    allowed : array_like
        Greatest error of each entry, broadcast to the arrays' shape.
    skipped : ndarray of bool, optional
        Entries that are not compared.

    Raises
    ------
    AssertionError
        The shapes differ, or an entry is wrong by more than is allowed.
    """
    found, right = np.asarray(result, np.float64), np.asarray(expected, np.float64)
    require(found.shape == right.shape, f"{what} has shape {found.shape}; {right.shape} is expected")
    limit = np.broadcast_to(np.asarray(allowed, np.float64), right.shape)
    with np.errstate(all="ignore"):
        error = np.abs(found - right)
        same = (found == right) | (np.isnan(found) & np.isnan(right))
        wrong = ~(same | (error <= limit))
    if skipped is not None:
        wrong &= ~skipped
    if not wrong.any():
        return
    with np.errstate(all="ignore"):
        # A NaN is worse than any number.
        excess = np.where(wrong, np.where(np.isnan(error), np.inf, error - limit), -np.inf)
    worst = np.unravel_index(int(np.argmax(excess)), right.shape)
    raise AssertionError(
        f"{what}{place(worst)} is {found[worst]:.9g}; {right[worst]:.9g} is expected (error {error[worst]:.3g}, "
        f"allowed {limit[worst]:.3g}); {int(wrong.sum())} of {wrong.size} entries are wrong"
    )


def same_bits(what: str, result: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    """Raise AssertionError unless two arrays have the same dtype, shape and bits; NaN equals NaN.

    Zero and minus zero differ, and so do whole numbers that float64 cannot tell apart.

    Parameters
    ----------
    what : str
        What is compared; the message begins with it.
    result, expected : ndarray
        Arrays of numbers.

    Raises
    ------
    AssertionError
        The dtypes or the shapes differ, or an entry differs, however little.
    """
    found, right = np.asarray(result), np.asarray(expected)
    require(found.dtype == right.dtype, f"{what} is {found.dtype}; {right.dtype} is expected")
    require(found.shape == right.shape, f"{what} has shape {found.shape}; {right.shape} is expected")
    ours, theirs = _bytes(found), _bytes(right)
    if np.array_equal(ours, theirs):
        return
    differs = (ours != theirs).any(axis=1).reshape(right.shape)
    if right.dtype.kind in "fc":
        differs &= ~(np.isnan(found) & np.isnan(right))
    if not differs.any():
        return
    first = np.unravel_index(int(np.argmax(differs)), right.shape)
    raise AssertionError(
        f"{what}{place(first)} is {found[first]!r}; {right[first]!r} is expected, bit for bit; "
        f"{int(differs.sum())} of {differs.size} entries differ"
    )


def _bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return an array's bytes, (entries, bytes of an entry)."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).reshape(flat.size, array.dtype.itemsize)


def require(condition: bool, message: str) -> None:
    """Raise AssertionError with a message unless a condition holds; also where Python runs without assertions.

    Parameters
    ----------
    condition : bool
        What has to hold.
    message : str
        What is wrong where it does not.
    """
    if not condition:
        raise AssertionError(message)


def place(index: tuple[Any, ...]) -> str:
    """Return an index as it is written after an array's name.

    Parameters
    ----------
    index : tuple of int
        Index of an entry.

    Returns
    -------
    str
        ``[2, 5]``; an empty string for a number.
    """
    return f"[{', '.join(str(int(one)) for one in index)}]" if index else ""


def largest(array: npt.ArrayLike) -> float:
    """Return the largest magnitude among the finite entries of an array, and 0 where there is none.

    Parameters
    ----------
    array : array_like
        Numbers.

    Returns
    -------
    float
        The largest magnitude.
    """
    magnitudes = np.abs(np.asarray(array, np.float64))
    return float(np.max(magnitudes, initial=0.0, where=np.isfinite(magnitudes)))
