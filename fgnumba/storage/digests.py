"""Checksums of arrays."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt


def digest_of(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """Return the SHA-256 of arrays: their dtypes, shapes and elements."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(bytes_of(array))
    return digest.hexdigest()


def bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of an array, a view of its own memory where it is C-contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
