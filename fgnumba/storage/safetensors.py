"""Read tensors from safetensors files, after comparing the header with the tensors that are expected.

A file holds the length of its header as a little-endian uint64, the header, and the elements
(https://huggingface.co/docs/safetensors). The header is a JSON object that gives the dtype, the shape and the place of
each tensor; its entry ``__metadata__`` maps text to text.

A file is not trusted: what its header claims is compared with the file's own size, and with what the caller expects,
before memory is allocated.

The package safetensors writes such files, but its ``safe_open`` does not read them here. It maps the file into memory:
if the file becomes shorter, SIGBUS kills the process, and 100 MiB of tensors have a peak of 200 MiB, reading 100
(seen with 0.8.0). That version can also read without a map, at the same cost as here. But it takes a name and no open
file, so that what is read need not be what was checked. It accepts two tensors of one name, keys that the format does
not have, headers of up to 100 MB, and more dimensions than NumPy has. It does not say where the elements begin, which
the checksum of a checkpoint needs.
"""

import json
import math
import os
from collections.abc import Collection, Mapping
from io import BufferedReader
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.errors import did_you_mean, shown
from fgnumba.storage.files import open_regular, size_of

MAX_HEADER = 1 << 24
"""Bytes of the longest header that is read: the names of a model's parameters, and a few megabytes of metadata."""
# The most dimensions that an array can have in every supported version of NumPy.
MAX_RANK = 32
LENGTH_BYTES = 8
METADATA = "__metadata__"
SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""The number of bytes of an element, by the format's name of its dtype."""


class Tensor(NamedTuple):
    """What a header says of one tensor.

    Parameters
    ----------
    dtype : str
        The format's name of the dtype, such as "F32".
    shape : tuple of int
        The shape.
    start : int
        The position of its first byte, counted from the end of the header.
    end : int
        The position after its last byte, counted from the end of the header.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """The number of bytes of the elements."""
        return self.end - self.start


class Header(NamedTuple):
    """The header of a safetensors file.

    Parameters
    ----------
    tensors : dict of str to Tensor
        The tensors by name.
    metadata : dict of str to str
        The metadata.
    size : int
        The position in the file at which the elements begin, in bytes.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    size: int


def read_header(path: str | os.PathLike[str]) -> Header:
    """Return the header of a safetensors file, after comparing it with the file's size. No element is read.

    Parameters
    ----------
    path : str or path
        The file.

    Raises
    ------
    OSError
        If the file cannot be opened, or is not a regular file.
    ValueError
        If it is no safetensors file, or is damaged. The message is one line.
    """
    with open_regular(path) as file:
        return header_of(file)


def read_tensors(
    path: str | os.PathLike[str], expected: Mapping[str, tuple[int, ...]], others: Collection[str] = ()
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the tensors of a safetensors file that must hold exactly the expected names and shapes.

    Parameters
    ----------
    path : str or path
        The file.
    expected : mapping of str to tuple of int
        The shape of each tensor, by name.
    others : collection of str, optional
        The names of tensors that the file holds besides, of any shape. By default there are none.

    Returns
    -------
    dict of str to ndarray, float32
        The tensors in the order of `expected`.

    Raises
    ------
    OSError
        If the file cannot be opened, or is not a regular file.
    ValueError
        If it is no safetensors file, is damaged, holds other tensors than expected, or holds numbers that are not
        float32 or not finite.
    """
    with open_regular(path) as file:
        header = header_of(file)
        _compare({name: t for name, t in header.tensors.items() if name not in others}, expected)
        return {name: _finite(name, _elements(file, header, name, "<f4")) for name in expected}


def read_constant(path: str | os.PathLike[str], name: str) -> npt.NDArray[Any]:
    """Return one tensor of a safetensors file: booleans or float32, of which some may be infinite or NaN.

    Parameters
    ----------
    path : str or path
        The file.
    name : str
        The name of the tensor.

    Returns
    -------
    ndarray, bool or float32
        The tensor.

    Raises
    ------
    OSError
        If the file cannot be opened, or is not a regular file.
    ValueError
        If it is no safetensors file, is damaged, or holds no such tensor.
    """
    with open_regular(path) as file:
        header = header_of(file)
        if name not in header.tensors:
            raise ValueError(f"{name!r} is missing")
        dtype = header.tensors[name].dtype
        if dtype not in ("BOOL", "F32"):
            raise ValueError(f"{name!r} has dtype {dtype}; BOOL or F32 is required")
        if dtype == "F32":
            return _elements(file, header, name, "<f4").astype(np.float32, copy=False)
        # Any byte may stand there, and NumPy's booleans must be 0 or 1.
        return _elements(file, header, name, "u1") != 0


def header_of(file: BufferedReader) -> Header:
    """Return the header of an open file; :func:`read_header` says what is checked and raised."""
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
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("a name occurs twice in the header")
    return entries


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
            f"{where}: {dtype} {shown(tensor.shape)} needs {shown(promised)} bytes; its data_offsets are {shown(place)}"
        )
    return tensor


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _check_places(tensors: Mapping[str, Tensor], there: int) -> None:
    """Raise ValueError unless the tensors lie one after another and fill the `there` bytes behind the header."""
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


def _elements(file: BufferedReader, header: Header, name: str, dtype: str) -> npt.NDArray[Any]:
    tensor = header.tensors[name]
    elements = np.empty(tensor.shape, dtype)
    file.seek(header.size + tensor.start)
    if file.readinto(elements.reshape(-1).view(np.uint8).data) != tensor.nbytes:
        raise ValueError(f"{name!r} breaks off")
    return elements


def _finite(name: str, elements: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if not np.isfinite(elements).all():
        raise ValueError(f"{name!r} holds a number that is not finite")
    return elements.astype(np.float32, copy=False)
