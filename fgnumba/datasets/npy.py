"""Arrays as NumPy's ``.npy`` files, alone or as members of an archive.

A file is not to be trusted: what its header claims is held against what is there before memory is asked for.
Nothing in it is unpickled.
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
"""Bytes of a header that NumPy reads."""
CHUNK_BYTES = 1 << 20
AS_FEATURES = 5
"""Bytes that an element is worth besides its own: as float32, and whether it is finite."""


def read_npy(stream: IO[bytes], size: int) -> np.ndarray:
    """Return the array of real numbers that `stream` holds.

    Parameters
    ----------
    stream : at the beginning of an ``.npy`` file.
    size : bytes that it yields at most.

    Raises
    ------
    ValueError
        What the content is instead, for a message of the form "x is ...".
    """
    start = stream.read(MAX_HEADER + 12)
    shape, fortran_order, dtype, header_size = _header(start)
    if dtype.hasobject:
        raise ValueError("a pickled array of Python objects; save it as numbers")
    if dtype.kind not in "fiub":
        raise ValueError(f"{str(dtype)[:100]}; real numbers are required")
    if len(shape) > MAX_RANK or any(type(n) is not int or not 0 <= n <= sys.maxsize for n in shape):
        raise ValueError(f"damaged: its header claims an impossible shape, {shown(shape)}")
    count = math.prod(shape)
    promised, there = count * dtype.itemsize, size - header_size
    if promised > there:
        raise ValueError(
            f"damaged: its header claims {promised} bytes, {shown(shape)} {dtype}; at most {max(there, 0)} are there"
        )
    needed, memory = count * (dtype.itemsize + AS_FEATURES), physical_memory()
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
    """Return shape, whether in Fortran's order, dtype, and where the elements begin."""
    stream = io.BytesIO(start)
    try:
        version = np.lib.format.read_magic(stream)
        # Version 3 differs in the names of fields alone, which numbers have not.
        parse = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
            (3, 0): np.lib.format.read_array_header_2_0,
        }[version]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran_order, dtype = parse(stream, max_header_size=MAX_HEADER)
    # The header is a Python expression: damage surfaces as whatever its parser met first, MemoryError among them.
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
