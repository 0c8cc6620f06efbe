"""Read arrays in NumPy's ``.npy`` format, from a file of their own or from a member of an archive.

A file is not trusted: what its header claims is compared with the bytes that are there before memory is allocated.
Nothing is unpickled.
"""

import io
import math
import sys
import warnings
from typing import IO

import numpy as np

from fgnumba.errors import shown
from fgnumba.kernels.machine.memory import physical_memory, readable
from fgnumba.storage.safetensors import MAX_RANK

MAX_HEADER = 10_000
"""The number of bytes of the longest header that NumPy is allowed to read."""
CHUNK_BYTES = 1 << 20
AS_FEATURES = 5
"""Bytes of memory that each element needs beside its own: 4 for its float32 copy, 1 for the flag "is finite"."""


def read_npy(stream: IO[bytes], size: int, text: bool = False) -> np.ndarray:
    """Return the array of real numbers, or of text, that `stream` holds.

    Parameters
    ----------
    stream : binary file object
        The stream, at the beginning of the ``.npy`` content.
    size : int
        The largest number of bytes that the stream can yield.
    text : bool, optional
        Whether the array may hold text of a fixed width. By default False.

    Returns
    -------
    ndarray
        The array, in the dtype and shape of the header.

    Raises
    ------
    ValueError
        If the content is anything else. The text completes a message of the form "x_train is …", for example
        "damaged: it breaks off after 12 of 400 bytes".
    """
    start = stream.read(MAX_HEADER + 12)
    shape, fortran_order, dtype, header_size = _header(start)
    if dtype.hasobject:
        raise ValueError("a pickled array of Python objects; save it as numbers")
    if dtype.kind not in ("fiubUS" if text else "fiub") or dtype.itemsize == 0:
        raise ValueError(f"{str(dtype)[:100]}; real numbers{' or text' if text else ''} are required")
    if len(shape) > MAX_RANK or any(type(n) is not int or not 0 <= n <= sys.maxsize for n in shape):
        raise ValueError(f"damaged: its header claims an impossible shape, {shown(shape)}")
    count = math.prod(shape)
    promised, there = count * dtype.itemsize, size - header_size
    if promised > there:
        raise ValueError(
            f"damaged: its header claims {promised} bytes, {shown(shape)} {dtype}; at most {max(there, 0)} are there"
        )
    # Texts are sorted and compared, which takes copies of all of them.
    copies = 4 if dtype.kind in "US" else 1
    needed, memory = count * (copies * dtype.itemsize + AS_FEATURES), physical_memory()
    if needed > memory:
        raise ValueError(
            f"too large: {shown(shape)} {dtype} needs {readable(needed)}; this machine has {readable(memory)}"
        )
    if count == 0 and math.prod(max(n, 1) for n in shape) * dtype.itemsize > sys.maxsize:
        raise ValueError(f"damaged: its header claims an impossible shape, {shown(shape)}")
    elements = np.empty(count, dtype)
    _fill(elements, start[header_size:], stream)
    return elements.reshape(shape, order="F" if fortran_order else "C")


def _header(start: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return the shape, whether the order is Fortran's, the dtype, and the byte at which the elements begin."""
    stream = io.BytesIO(start)
    try:
        version = np.lib.format.read_magic(stream)
        # Version 3 differs from version 2 only in the encoding of fields' names, and plain numbers have no fields.
        parse = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
            (3, 0): np.lib.format.read_array_header_2_0,
        }[version]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran_order, dtype = parse(stream, max_header_size=MAX_HEADER)
    # The header is a Python expression, so damage can raise any error that Python's parser can, even MemoryError.
    except Exception as error:
        raise ValueError(f"not a readable .npy array ({str(error)[:200]})") from None
    return shape, fortran_order, dtype, stream.tell()


def _fill(elements: np.ndarray, start: bytes, stream: IO[bytes]) -> None:
    target = elements.view(np.uint8)
    filled = min(len(start), len(target))
    target[:filled] = np.frombuffer(start, np.uint8, filled)
    while filled < len(target):
        part = stream.read(min(CHUNK_BYTES, len(target) - filled))
        if not part:
            raise ValueError(f"damaged: it breaks off after {filled} of {len(target)} bytes")
        target[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
        filled += len(part)
