"""The order of axes: images are (H, W, C) in this library and (C, H, W) elsewhere.

Most layers only need their weights transposed. ``Flatten`` is where it matters: it makes (H, W, C) a row in which the
channels of a pixel are neighbours, and (C, H, W) one in which the pixels of a channel are. So a row has an *order*,
which says of what it was put together. A dense layer's weight is permuted by it.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.layers import Shape

Order = tuple[Shape, ...] | None
"""What a row is put together of, in turn: images (H, W, C) that were flattened, and rows (K,) that are the same on both
sides. None: all of it is the same. It is no array, because a file may claim an image of any size."""


def outside(shape: Shape) -> Shape:
    """Return the shape that an example of `shape` has elsewhere: (C, H, W) for (H, W, C), else the same."""
    return (shape[2], shape[0], shape[1]) if len(shape) == 3 else shape


def examples_outside(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return examples as they are elsewhere: (B, C, H, W) for (B, H, W, C), else the same."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def flattened(shape: Shape) -> Order:
    """Return the order of the row that an image (H, W, C) becomes."""
    return None if shape[2] == 1 or shape[0] * shape[1] == 1 else (shape,)


def joined(orders: Sequence[Order], sizes: Sequence[int]) -> Order:
    """Return the order of rows of these `sizes` that are laid side by side."""
    parts: list[Shape] = []
    for order, size in zip(orders, sizes, strict=True):
        for part in ((size,),) if order is None else order:
            if len(part) == 1 and parts and len(parts[-1]) == 1:
                part = (part[0] + parts.pop()[0],)
            parts.append(part)
    return None if len(parts) == 1 and len(parts[0]) == 1 else tuple(parts)


def rows_here(array: npt.NDArray[Any], order: Order) -> npt.NDArray[Any]:
    """Return an array whose first axis counts a row's elements elsewhere, in the order that they have here."""
    if order is None:
        return array
    result = np.empty_like(array)
    result[_elements(order)] = array
    return result


def rows_outside(array: npt.NDArray[Any], order: Order) -> npt.NDArray[Any]:
    """Return an array whose first axis counts a row's elements here, in the order that they have elsewhere."""
    return array if order is None else array[_elements(order)]


def _elements(order: Sequence[Shape]) -> npt.NDArray[np.intp]:
    """Return for each element of a row elsewhere the number that it has here."""
    found, start = [], 0
    for part in order:
        numbers = np.arange(start, start + math.prod(part), dtype=np.intp)
        start += len(numbers)
        found.append(numbers.reshape(part).transpose(2, 0, 1).reshape(-1) if len(part) == 3 else numbers)
    return np.concatenate(found)
