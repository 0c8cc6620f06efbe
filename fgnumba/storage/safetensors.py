"""Tensors as safetensors files, held against what is expected before any of them is read.

A file is the header's length as a little-endian uint64, a JSON object of each tensor's dtype, shape and place, and
the elements (https://huggingface.co/docs/safetensors). ``__metadata__`` maps text to text.

A file is not to be trusted: what its header claims is held against the file's own size, and against what the caller
expects, before memory is asked for.
"""

import json
import math
import os
from collections.abc import Mapping
from io import BufferedReader
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.errors import did_you_mean, shown
from fgnumba.storage.files import open_regular, size_of

MAX_HEADER = 1 << 24
"""Bytes of the longest header: the names of all parameters that a model can have, and a few megabytes of metadata."""
# The fewest dimensions that any supported NumPy can hold.
MAX_RANK = 32
LENGTH_BYTES = 8
METADATA = "__metadata__"
SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""Bytes of an element of each dtype."""


class Tensor(NamedTuple):
    """What a header says of a tensor: dtype as safetensors calls it, shape, and its bytes' place behind the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.end - self.start


class Header(NamedTuple):
    """A file's tensors by name, its metadata, and where the elements begin."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    size: int


def read_header(path: str | os.PathLike[str]) -> Header:
    """Return the header of a safetensors file, held against the file's size; no element is read.

    Raises
    ------
    OSError
        The file cannot be opened, or is no regular one.
    ValueError
        It is no safetensors file, or damaged; the message is one line.
    """
    with open_regular(path) as file:
        return header_of(file)


def read_tensors(
    path: str | os.PathLike[str], expected: Mapping[str, tuple[int, ...]]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the tensors of a file that is to hold those of `expected`, name by name and shape by shape.

    Raises
    ------
    OSError, ValueError
        As :func:`read_header`; or the file holds other tensors, or numbers that are not float32 or not finite.
    """
    with open_regular(path) as file:
        header = header_of(file)
        _compare(header.tensors, expected)
        return {name: _elements(file, header, name) for name in expected}


def header_of(file: BufferedReader) -> Header:
    """Return the header of an open file, as :func:`read_header` does."""
    size = size_of(file)
    if size < LENGTH_BYTES:
        raise ValueError(f"it has {size} bytes; a safetensors file has at least {LENGTH_BYTES}")
    length, after = int.from_bytes(file.read(LENGTH_BYTES), "little"), size - LENGTH_BYTES
    if length > after:
        raise ValueError(f"it claims a header of {length} bytes; {after} are there")
    if length > MAX_HEADER:
        raise ValueError(f"it has a header of {length} bytes; at most {MAX_HEADER} are read")
    try:
        entries = json.loads(file.read(length).decode(), object_pairs_hook=_without_repetition)
    except RecursionError:
        raise ValueError("the header's brackets are nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("the header is not UTF-8 text") from None
    if not isinstance(entries, dict):
        raise ValueError(f"the header is {shown(entries)}; an object is required")
    metadata = entries.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError(f"{METADATA} is {shown(metadata)}; an object of texts is required")
    tensors = {name: _tensor(name, entry) for name, entry in entries.items()}
    _check_places(tensors, after - length)
    return Header(tensors, metadata, LENGTH_BYTES + length)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name of the header is there twice")
    return found


def _tensor(name: str, entry: Any) -> Tensor:
    where = f"tensor {shown(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{where} is {shown(entry)}; dtype, shape and data_offsets are required")
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise ValueError(f"{where}: dtype is {shown(dtype)}{did_you_mean(shown(dtype), SIZES)}")
    if not _are_sizes(shape) or len(shape) > MAX_RANK:
        raise ValueError(f"{where}: shape is {shown(shape)}; at most {MAX_RANK} whole numbers are required")
    if not _are_sizes(place) or len(place) != 2:
        raise ValueError(f"{where}: data_offsets is {shown(place)}; begin and end are required")
    tensor = Tensor(dtype, tuple(shape), *place)
    promised = math.prod(shape) * SIZES[dtype]
    if tensor.nbytes != promised:
        raise ValueError(
            f"{where}: {dtype} {shown(tensor.shape)} has {shown(promised)} bytes; {shown(place)} is its place"
        )
    return tensor


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _check_places(tensors: Mapping[str, Tensor], there: int) -> None:
    """Raise ValueError unless the tensors lie one after another and fill the bytes behind the header."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if tensor.start != end:
            raise ValueError(
                f"tensor {shown(name)} begins at byte {shown(tensor.start)}; {shown(end)} is required"
            )
        end = tensor.end
    if end != there:
        raise ValueError(f"its tensors have {shown(end)} bytes; {there} are there")


def _compare(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    for name in tensors:
        if name not in expected:
            raise ValueError(f"unknown name {shown(name)}{did_you_mean(name, expected)}")
    for name, shape in expected.items():
        if name not in tensors:
            raise ValueError(f"{name!r} is missing; its shape is {shape}")
        tensor = tensors[name]
        if tensor.shape != shape:
            raise ValueError(f"{name!r} has shape {shown(tensor.shape)}; {shape} is required")
        if tensor.dtype != "F32":
            raise ValueError(f"{name!r} has dtype {tensor.dtype}; F32 is required")


def _elements(file: BufferedReader, header: Header, name: str) -> npt.NDArray[np.float32]:
    tensor = header.tensors[name]
    elements = np.empty(tensor.shape, "<f4")
    file.seek(header.size + tensor.start)
    if file.readinto(elements.reshape(-1).view(np.uint8).data) != tensor.nbytes:
        raise ValueError(f"{name!r} breaks off")
    if not np.isfinite(elements).all():
        raise ValueError(f"{name} is not finite")
    return elements.astype(np.float32, copy=False)
