"""The IDX format, in which MNIST and its relatives are published.

A file holds two zero bytes, the element type, the rank, each size as a big-endian uint32, and then the elements in C
order (http://yann.lecun.com/exdb/mnist). Only files of unsigned bytes (type 8) are read, plain or gzip-compressed.

A file is not trusted: its header is compared with the file's own size before memory is allocated, and no more bytes
are decompressed than the header promises.
"""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from fgnumba.datasets.npy import AS_FEATURES
from fgnumba.errors import DatasetError
from fgnumba.kernels.machine.memory import physical_memory, readable
from fgnumba.storage.files import open_regular, size_of
from fgnumba.storage.safetensors import MAX_RANK
from fgnumba.validation.paths import path_of

UNSIGNED_BYTE = 8
GZIP_MAGIC = b"\x1f\x8b"
# Deflate's cheapest code spends 2 bits on 258 bytes, so one compressed byte holds at most 4 · 258 bytes.
MAX_GZIP_RATIO = 1032
CHUNK_BYTES = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array that an IDX file holds.

    Parameters
    ----------
    path : str or path
        The file, plain or gzip-compressed. Its first bytes decide which of the two it is, not its name.

    Returns
    -------
    ndarray, uint8, C-contiguous
        The elements, in the shape that the header states.

    Raises
    ------
    DatasetError
        If the file cannot be opened, is not an IDX file of unsigned bytes, is empty or damaged, or is longer or
        shorter than its header states.
    """
    path = path_of(path, "path", DatasetError)
    try:
        with open_regular(path) as file:
            return read_stream(path, file, size_of(file))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_stream(path: Path | str, stream: IO[bytes], size: int) -> np.ndarray:
    """Return the array of an IDX file that is open, or that is a member of an archive.

    Parameters
    ----------
    path : pathlib.Path or str
        What the file is called in messages.
    stream : binary file object
        The file, at its beginning. It can go back to its beginning.
    size : int
        The largest number of bytes that the stream can yield.

    Returns
    -------
    ndarray, uint8, C-contiguous
        The elements, in the shape that the header states.

    Raises
    ------
    DatasetError
        As for :func:`read_idx`.
    """
    try:
        compressed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        stream.seek(0)
        if not compressed:
            return _read(path, stream, size)
        with gzip.open(stream, "rb") as unpacked:
            return _read(path, unpacked, size * MAX_GZIP_RATIO)
    except EOFError as error:
        raise DatasetError(f"{path}: the gzip stream breaks off; fetch the file again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path}: the gzip stream is damaged ({error}); fetch the file again") from error
    except MemoryError as error:
        raise DatasetError(f"{path}: not enough memory for its elements") from error


def _read(path: Path | str, stream: IO[bytes] | gzip.GzipFile, limit: int) -> np.ndarray:
    """Return the array of a stream, which yields at most `limit` bytes after decompression."""
    shape = _read_shape(path, stream)
    promised = math.prod(shape)
    if promised == 0:
        raise DatasetError(
            f"{path}: is empty: its header states shape {shape}; sizes of at least 1 are required"
        )
    if promised > limit:
        raise DatasetError(
            f"{path}: truncated: its header promises {promised} bytes, {shape}; the file has fewer than that"
        )
    needed = promised * (1 + AS_FEATURES)
    if needed > physical_memory():
        raise DatasetError(
            f"{path}: {shape} needs {readable(needed)}; this machine has {readable(physical_memory())}"
        )
    elements = np.empty(shape, np.uint8)
    view = elements.reshape(-1).data
    filled = 0
    while filled < promised:
        part = stream.read(min(CHUNK_BYTES, promised - filled))
        if not part:
            raise DatasetError(
                f"{path}: truncated: its header promises {promised} bytes, {shape}; it holds {filled}"
            )
        view[filled : filled + len(part)] = part
        filled += len(part)
    # Reading past the end also makes gzip compare its checksum.
    if stream.read(1):
        raise DatasetError(f"{path}: bytes follow the {promised} that its header promises, {shape}")
    return elements


def _read_shape(path: Path | str, stream: IO[bytes] | gzip.GzipFile) -> tuple[int, ...]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise DatasetError(f"{path}: truncated: {len(magic)} bytes, where an IDX header has at least 8")
    if magic[:2] != b"\0\0":
        raise DatasetError(f"{path}: not an IDX file: it begins with {magic.hex()}; 000008 is required")
    kind, rank = magic[2], magic[3]
    if kind != UNSIGNED_BYTE:
        raise DatasetError(f"{path}: IDX element type 0x{kind:02x}; unsigned bytes, 0x08, are required")
    if not 1 <= rank <= MAX_RANK:
        raise DatasetError(f"{path}: IDX rank {rank}; 3 for images or 1 for labels is required")
    sizes = stream.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise DatasetError(
            f"{path}: truncated: its header of rank {rank} breaks off after {4 + len(sizes)} bytes"
        )
    return tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, 4 * rank, 4))
