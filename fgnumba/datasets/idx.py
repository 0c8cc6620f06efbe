"""The IDX format, in which MNIST and its relatives are published.

A file holds two zero bytes, the element type, the rank, each size as a big-endian uint32, and then the elements in C
order (http://yann.lecun.com/exdb/mnist). Only files of unsigned bytes (type 8) are read, plain or gzip-compressed.

A file is not trusted: its header is compared with the file's own size before memory is allocated, and no more bytes
are decompressed than the header promises.
"""

import gzip
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np

from fgnumba.datasets.dataset import Dataset, check_labels
from fgnumba.datasets.npy import AS_FEATURES
from fgnumba.errors import DatasetError
from fgnumba.kernels.machine.memory import physical_memory, readable
from fgnumba.storage.files import open_regular, size_of
from fgnumba.storage.safetensors import MAX_RANK
from fgnumba.validation import optional, whole_number
from fgnumba.validation.paths import path_of

# The names under which the files are published. In variants a dot precedes "idx", not a hyphen, or ".gz" follows.
TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"

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
            limit = size_of(file)
            compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            if not compressed:
                return _read(path, file, limit)
            with gzip.open(file, "rb") as stream:
                return _read(path, stream, limit * MAX_GZIP_RATIO)
    except EOFError as error:
        raise DatasetError(f"{path}: the gzip stream breaks off; fetch the file again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path}: the gzip stream is damaged ({error}); fetch the file again") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise DatasetError(f"{path}: not enough memory for its elements") from error


def load_idx_folder(folder: str | os.PathLike[str], name: str, classes: int | None = None) -> Dataset:
    """Load the four IDX files of a folder. The images are divided by 255 and become (n, H, W, 1) float32.

    Parameters
    ----------
    folder : str or path
        The folder that holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``. Each name may end in ``.gz``, and may have a
        dot before ``idx`` in place of the hyphen.
    name : str
        The name of the data set.
    classes : int, optional
        The number of classes; every label must be below it. By default it is the largest label plus 1.

    Returns
    -------
    Dataset
        The training part and the test part, checked.

    Raises
    ------
    ConfigError
        If `classes` is not a whole number of at least 1.
    DatasetError
        If a file is missing or damaged, or the numbers of images and labels differ.
    """
    classes = optional(whole_number, "classes", classes)
    folder = path_of(folder, "data_dir", DatasetError)
    train = _read_pair(folder, TRAIN_IMAGES, TRAIN_LABELS, classes)
    test = _read_pair(folder, TEST_IMAGES, TEST_LABELS, classes)
    return Dataset(
        name,
        *(_scaled(train[0]), train[1]),
        *(_scaled(test[0]), test[1]),
        classes=classes or 1 + max(int(labels.max()) for _, labels in (train, test)),
    )


def _read(path: Path, stream: io.BufferedReader | gzip.GzipFile, limit: int) -> np.ndarray:
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
        count = stream.readinto(view[filled : filled + CHUNK_BYTES])
        if not count:
            raise DatasetError(
                f"{path}: truncated: its header promises {promised} bytes, {shape}; it holds {filled}"
            )
        filled += count
    # Reading past the end also makes gzip compare its checksum.
    if stream.read(1):
        raise DatasetError(f"{path}: bytes follow the {promised} that its header promises, {shape}")
    return elements


def _read_shape(path: Path, stream: io.BufferedReader | gzip.GzipFile) -> tuple[int, ...]:
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


def _read_pair(folder: Path, images: str, labels: str, classes: int | None) -> tuple[np.ndarray, np.ndarray]:
    images_path, labels_path = _find(folder, images), _find(folder, labels)
    pixels = _read_rank(images_path, 3, "images")
    targets = _read_rank(labels_path, 1, "labels")
    if len(pixels) != len(targets):
        raise DatasetError(
            f"{images_path} has {len(pixels)} images and {labels_path.name} {len(targets)} labels; "
            "the two numbers must be equal"
        )
    if classes is not None:
        check_labels(f"{labels_path}: label", targets, classes)
    return pixels, targets.astype(np.int64)


def _find(folder: Path, name: str) -> Path:
    for stem in (name, name.replace("-idx", ".idx")):
        for candidate in (folder / stem, folder / f"{stem}.gz"):
            if os.path.isfile(candidate):
                return candidate
    raise DatasetError(f"{folder}: no file {name} or {name}.gz; the folder must hold all four IDX files")


def _read_rank(path: Path, rank: int, content: str) -> np.ndarray:
    elements = read_idx(path)
    if elements.ndim != rank:
        raise DatasetError(f"{path}: shape {elements.shape}; {content} have rank {rank}")
    return elements


def _scaled(pixels: np.ndarray) -> np.ndarray:
    return np.divide(pixels[..., np.newaxis], 255, dtype=np.float32)
