"""The file of a checkpoint: facts and arrays, with a checksum over the whole file.

It is a safetensors file: the length of a JSON header, the header, and the arrays. Its metadata have two entries:
`facts`, a JSON object such as ``{"step": 200, ...}``, and `sha256`, the checksum of the whole file. The checksum is
computed with zeros in the place of its own 64 digits. Nothing is pickled.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fgnumba.errors import RunError, shown
from fgnumba.storage.digests import bytes_of
from fgnumba.storage.durable import replacing, write_all
from fgnumba.storage.files import open_regular
from fgnumba.storage.json_lines import parsed
from fgnumba.storage.safetensors import Header, Tensor, header_of

_CHUNK = 1 << 20
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_NO_DIGEST = "0" * 64
_BEFORE_DIGEST = b'"sha256":"'


def write(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : pathlib.Path
        The file; an older file of that name is replaced.
    facts : mapping of str to JSON values
        The facts that the checkpoint states.
    arrays : mapping of str to ndarray
        The arrays by name, each float32 or float64.

    Raises
    ------
    OSError
        If the file cannot be written. The older file, if there is one, is then unchanged.
    """
    header = _header(facts, arrays)
    digest = hashlib.sha256(header)
    with replacing(path) as file:
        write_all(file, header)
        for array in arrays.values():
            content = bytes_of(array)
            digest.update(content)
            write_all(file, content)
        file.seek(header.index(_BEFORE_DIGEST) + len(_BEFORE_DIGEST))
        write_all(file, digest.hexdigest().encode())


def _header(facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    # The metadata come first, so that no text that a user chose can precede the checksum and be taken for it.
    table: dict[str, Any] = {"__metadata__": {"sha256": _NO_DIGEST, "facts": json.dumps(facts)}}
    at = 0
    for name, array in arrays.items():
        table[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(table, separators=(",", ":")).encode()
    # Readers may map the file into memory, so the arrays begin at a multiple of 8 bytes.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True)
class Entry:
    """An array of a checkpoint: its dtype, its shape, and the position in the file at which its bytes begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


class DamagedError(RunError):
    """The file of a checkpoint is there, but is damaged or incomplete."""


class CheckpointFile:
    """A checkpoint file that is whole: its checksum has been compared with its content.

    Opening one allocates no more memory than the header needs; arrays are read one by one.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Attributes
    ----------
    facts : dict
        The facts that were written.
    entries : dict of str to Entry
        The dtype, shape and position of each array, by name.

    Raises
    ------
    DamagedError
        If the file is no checkpoint, or is damaged or incomplete.
    RunError
        If the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_regular(path) as file:
                header = header_of(file)
                self.entries = {
                    name: _entry(name, tensor, header.size) for name, tensor in header.tensors.items()
                }
                self.facts = _facts(header.metadata)
                if _digest(file, header) != header.metadata["sha256"]:
                    raise ValueError("its checksum is not that of its content")
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise DamagedError(f"{path} is damaged: {error}") from None

    def array(self, name: str) -> npt.NDArray[Any]:
        """Read one array.

        Parameters
        ----------
        name : str
            The name under which the array was written.

        Returns
        -------
        ndarray
            The array, float32 or float64.

        Raises
        ------
        RunError
            If the file cannot be read, or has become shorter since it was opened.
        """
        entry = self.entries[name]
        array = np.empty(entry.shape, entry.dtype)
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(entry.start)
                rest = bytes_of(array)
                while rest:
                    count = file.readinto(rest)
                    if not count:
                        raise OSError("it breaks off")
                    rest = rest[count:]
        except OSError as error:
            raise RunError(f"{self.path}: {name}: {error.strerror or error}") from None
        return array


def _entry(name: str, tensor: Tensor, start: int) -> Entry:
    if tensor.dtype not in _DTYPES:
        raise ValueError(f"{shown(name)} is {tensor.dtype}; {' or '.join(_DTYPES)} is required")
    return Entry(_DTYPES[tensor.dtype], tensor.shape, start + tensor.start)


def _facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    if not {"sha256", "facts"} <= metadata.keys():
        raise ValueError("it has no checksum, or states no facts")
    return parsed(metadata["facts"])


def _digest(file: BinaryIO, header: Header) -> str:
    """Return the checksum of an open file, which is read chunk by chunk."""
    file.seek(0)
    text = file.read(header.size)
    stated = _BEFORE_DIGEST + header.metadata["sha256"].encode() + b'"'
    digest = hashlib.sha256(text.replace(stated, _BEFORE_DIGEST + _NO_DIGEST.encode() + b'"', 1))
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
