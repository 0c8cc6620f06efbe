"""CIFAR-10 in its binary version: 60,000 colour images of 32x32 in ten classes.

Each of its six files is a sequence of records of 3,073 bytes: the label, then 1,024 bytes each of red, green and blue,
row by row (A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009;
https://www.cs.toronto.edu/~kriz/cifar.html).

A file is not trusted: its size is compared with the machine's memory before it is read.
"""

import os
from pathlib import Path
from typing import IO

import numpy as np

from fgnumba.datasets.archives import described, read_tar
from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.npy import AS_FEATURES
from fgnumba.errors import DatasetError
from fgnumba.kernels.machine.memory import physical_memory, readable
from fgnumba.storage.files import open_regular, size_of

ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""The names in the archive's batches.meta.txt."""
RECORD = 1 + 3 * 32 * 32
CHUNK_BYTES = 1 << 20


def holds_cifar(path: Path) -> bool:
    """Return whether a path is that of CIFAR-10: its archive, or a folder that holds the files or the archive."""
    return _place(path) is not None


def load_cifar(path: Path, name: str) -> Dataset:
    """Load CIFAR-10. The images are divided by 255 and become (n, 32, 32, 3) float32: height, width, colours.

    Parameters
    ----------
    path : pathlib.Path
        The folder that holds ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, or a folder
        ``cifar-10-batches-bin`` with them, or the archive ``cifar-10-binary.tar.gz``; or the archive itself. Files
        may have any number of records.
    name : str
        The name of the data set.

    Returns
    -------
    Dataset
        The training part and the test part, checked, with the names of the ten classes.

    Raises
    ------
    DatasetError
        If a file is missing or damaged, a label is above 9, or the images are more than the machine's memory holds.
    """
    place = _place(path)
    if place is None:
        raise DatasetError(
            f"{path}: no file {TRAIN[0]}; the six .bin files of CIFAR-10's binary version, or {ARCHIVE}, are "
            f"required; {described(path)}"
        )
    records = _Reader(place).files()
    x_train, y_train = _images([records.pop(file) for file in TRAIN])
    x_test, y_test = _images([records.pop(TEST)])
    return Dataset(name, x_train, y_train, x_test, y_test, classes=len(CLASSES), labels=CLASSES)


def _place(path: Path) -> Path | None:
    """Return the archive, or the folder of the files, that a path stands for."""
    if os.path.isfile(path):
        return path if path.name.endswith(ARCHIVE) else None
    for folder in (path, path / FOLDER):
        if any(os.path.isfile(folder / file) for file in (*TRAIN, TEST)):
            return folder
    return path / ARCHIVE if os.path.isfile(path / ARCHIVE) else None


class _Reader:
    """Reads the six files, and counts the memory that they need together."""

    def __init__(self, place: Path) -> None:
        self._place, self._total = place, 0

    def files(self) -> dict[str, np.ndarray]:
        """Return the records of each file, (n, RECORD) uint8."""
        place = self._place
        if os.path.isfile(place):
            found = read_tar(place, (*TRAIN, TEST), self._records)
            for file in (*TRAIN, TEST):
                if file not in found:
                    raise DatasetError(
                        f"{place}: no {file}; the archive of CIFAR-10's binary version is required"
                    )
            return found
        for file in (*TRAIN, TEST):
            if not os.path.isfile(place / file):
                raise DatasetError(f"{place}: no file {file}; all six are required; {described(place)}")
        return {file: self._file(file) for file in (*TRAIN, TEST)}

    def _file(self, file: str) -> np.ndarray:
        try:
            with open_regular(self._place / file) as stream:
                return self._records(file, stream, size_of(stream))
        except OSError as error:
            raise DatasetError(f"{self._place / file}: cannot be read ({error.strerror or error})") from error

    def _records(self, file: str, stream: IO[bytes], size: int) -> np.ndarray:
        where = f"{self._place}: {file}"
        if size == 0 or size % RECORD:
            raise DatasetError(f"{where}: {size:,} bytes; a multiple of {RECORD:,} that is not 0 is required")
        self._total += size
        needed = self._total * (1 + AS_FEATURES)
        if needed > physical_memory():
            raise DatasetError(
                f"{where}: needs {readable(needed)} with the files before it; this machine has "
                f"{readable(physical_memory())}"
            )
        content = np.empty(size, np.uint8)
        filled = 0
        while filled < size:
            part = stream.read(min(CHUNK_BYTES, size - filled))
            if not part:
                raise DatasetError(f"{where}: truncated: {size:,} bytes are promised; it holds {filled:,}")
            content[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
            filled += len(part)
        records = content.reshape(-1, RECORD)
        wrong = records[:, 0] >= len(CLASSES)
        if wrong.any():
            index = int(np.argmax(wrong))
            raise DatasetError(
                f"{where}: label[{index}] is {records[index, 0]}; labels are 0 to {len(CLASSES) - 1}"
            )
        return records


def _images(files: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    images = np.empty((sum(map(len, files)), 32, 32, 3), np.float32)
    first = 0
    for records in files:
        colours = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        np.divide(colours, 255, dtype=np.float32, out=images[first : first + len(records)])
        first += len(records)
    return images, np.concatenate([records[:, 0] for records in files]).astype(np.int64)
