"""Checksums of arrays."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt


def digest_of(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """Return the SHA-256, in hexadecimal, of the dtypes, shapes and elements of `arrays`."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(bytes_of(array))
    return digest.hexdigest()


def bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of an array: a view of its own memory if it is C-contiguous, else of a copy."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
