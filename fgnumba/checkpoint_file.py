"""The file of a checkpoint: facts and arrays, with a checksum over all of it.

It is a safetensors file: the length of a JSON header, the header, the arrays. The metadata have two entries: `facts`,
as JSON, and `sha256`, of the whole file with zeros in the place of these 64 digits. Nothing is pickled.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.durable import replacing, write_all
from fgnumba.errors import RunError
from fgnumba.files import open_regular

MAX_HEADER = 100 << 20
_CHUNK = 1 << 20
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_NO_DIGEST = "0" * 64
_BEFORE_DIGEST = b'"sha256":"'


def write(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a checkpoint, whole or not at all; arrays are float32 or float64.

    Raises
    ------
    OSError
    """
    header = _header(facts, arrays)
    digest = hashlib.sha256(header)
    with replacing(path) as file:
        write_all(file, header)
        for array in arrays.values():
            content = _bytes_of(array)
            digest.update(content)
            write_all(file, content)
        file.seek(header.index(_BEFORE_DIGEST) + len(_BEFORE_DIGEST))
        write_all(file, digest.hexdigest().encode())


def _header(facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    # First, so that nothing that a user chose stands before it.
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
    # Readers map the file: arrays begin at multiples of 8.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True)
class Entry:
    """An array of a checkpoint: what it is, and where its bytes begin in the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class CheckpointFile:
    """A checkpoint that is there and whole: its checksum has been compared.

    Parameters
    ----------
    path : of the file. No more memory is asked for than its header takes; arrays are read one by one.

    Attributes
    ----------
    facts : as they were written.
    entries : of the arrays, by name.

    Raises
    ------
    RunError
        The file is missing, damaged, or no checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_regular(path) as file:
                size = os.fstat(file.fileno()).st_size
                length = int.from_bytes(file.read(8), "little")
                if not 2 <= length <= min(size - 8, MAX_HEADER):
                    raise ValueError("it has no header")
                text = file.read(length)
                metadata, self.entries = _entries(text, size - 8 - length, 8 + length)
                digest = hashlib.sha256(length.to_bytes(8, "little"))
                stated = f'"sha256":"{metadata["sha256"]}"'.encode()
                digest.update(text.replace(stated, _BEFORE_DIGEST + _NO_DIGEST.encode() + b'"', 1))
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            if digest.hexdigest() != metadata["sha256"]:
                raise ValueError("its checksum is not that of its content")
            self.facts: dict[str, Any] = json.loads(metadata["facts"])
            if not isinstance(self.facts, dict):
                raise ValueError("it states no facts")
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise RunError(f"{path} is damaged: {reason[:200]}") from None

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return an array; RunError where the file is no longer what it was."""
        entry = self.entries[name]
        found = np.empty(entry.shape, entry.dtype)
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(entry.start)
                rest = _bytes_of(found)
                while rest:
                    count = file.readinto(rest)
                    if not count:
                        raise OSError("it breaks off")
                    rest = rest[count:]
        except OSError as error:
            raise RunError(f"{self.path}: {name}: {error.strerror or error}") from None
        return found


def _entries(text: bytes, data: int, start: int) -> tuple[dict[str, str], dict[str, Entry]]:
    """Return metadata and arrays of a header; ValueError unless it accounts for all `data` bytes that follow it."""
    table = json.loads(text)
    if not isinstance(table, dict):
        raise ValueError("its header is no table")
    metadata = table.pop("__metadata__", None)
    required = ("sha256", "facts")
    if not isinstance(metadata, dict) or not all(isinstance(metadata.get(key), str) for key in required):
        raise ValueError("it has no checksum")
    entries, at = {}, 0
    for name, row in table.items():
        dtype = _DTYPES.get(str(row.get("dtype"))) if isinstance(row, dict) else None
        if dtype is None or not _is_shape(row.get("shape")):
            raise ValueError(f"what it says of {name[:80]!r} is no dtype and shape")
        entry = Entry(dtype, tuple(row["shape"]), start + at)
        if row.get("data_offsets") != [at, at + entry.nbytes]:
            raise ValueError(f"{name[:80]!r} is not where its shape puts it")
        entries[name] = entry
        at += entry.nbytes
    if at != data:
        raise ValueError(f"{data} bytes of arrays; its header states {at}")
    return metadata, entries


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) <= 8
        and all(type(size) is int and 0 < size < 1 << 48 for size in shape)
    )


def digest_of(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """Return the SHA-256 of arrays: their dtypes, shapes and elements."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(_bytes_of(array))
    return digest.hexdigest()


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
