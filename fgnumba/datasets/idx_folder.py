"""Folders of IDX files: MNIST's four, and those of its relatives, whose names end like MNIST's.

The name of a relative's file begins with what the data set is called, as ``emnist-letters-train-images-idx3-ubyte.gz``
does. In variants a dot precedes ``idx``, not a hyphen.

The images of EMNIST (G. Cohen et al., arXiv 1702.05373) are transposed in its files: what is stored as a row is a
column. They are turned here, so that a letter stands upright.
"""

import os
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from fgnumba.datasets.archives import check_member, contents, described, opened_zip
from fgnumba.datasets.dataset import Dataset, check_labels
from fgnumba.datasets.idx import read_idx, read_stream
from fgnumba.datasets.labels import classes_of
from fgnumba.errors import DatasetError
from fgnumba.validation import optional, whole_number
from fgnumba.validation.paths import path_of

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
PARTS = {TRAIN_IMAGES: "train-images", TRAIN_LABELS: "train-labels"}
PARTS |= {TEST_IMAGES: "test-images", TEST_LABELS: "test-labels"}
EMNIST, LETTERS, EMNIST_ARCHIVE = "emnist", "emnist-letters", "gzip.zip"

_NAME = re.compile(
    r"(?:(?P<prefix>.{1,100})[-_])?(?P<part>train|test|t10k)-(?P<content>images|labels)[-.]idx[13]-ubyte(?:\.gz)?"
)
Readers = dict[str, tuple[str, Callable[[], np.ndarray]]]
"""For each of "train-images" and so on, what the file is called in messages, and a function that reads it."""


def load_idx_folder(folder: str | os.PathLike[str], name: str, classes: int | None = None) -> Dataset:
    """Load the four IDX files of a folder. The images are divided by 255 and become (n, H, W, 1) float32.

    Parameters
    ----------
    folder : str or path
        The folder that holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
        ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``. Each name may end in ``.gz``, may have a dot before
        ``idx`` in place of the hyphen, ``test`` in place of ``t10k``, and a prefix, such as ``emnist-letters-``. Where
        files of several prefixes are there, the path goes on with one of them: ``DIR/emnist-letters``.
    name : str
        The name of the data set.
    classes : int, optional
        The number of classes; every label must be below it. By default the labels decide.

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
    if names_a_prefix(folder):
        prefix, readers = _found(folder.parent, folder.name)
    else:
        prefix, readers = _found(folder, None)
    x_train, y_train, x_test, y_test = _read(readers, prefix.startswith(EMNIST), classes)
    if classes is not None:
        return Dataset(name, x_train, y_train, x_test, y_test, classes=classes)
    known = classes_of(str(folder), y_train, y_test)
    return Dataset(name, x_train, known.train, x_test, known.test, known.count, known.names)


def names_a_prefix(path: Path) -> bool:
    """Return whether nothing is at a path, but its last part begins the names of IDX files in the folder above."""
    return not os.path.lexists(path) and path.name in _prefixes(path.parent)


def load_emnist_letters(path: Path, name: str) -> Dataset:
    """Load the letters of EMNIST, upright: 26 classes that are called A to Z.

    Parameters
    ----------
    path : pathlib.Path
        The folder that holds the four files ``emnist-letters-…``, or ``gzip.zip``, the archive of all of EMNIST.
    name : str
        The name of the data set.

    Returns
    -------
    Dataset
        The training part and the test part, checked. The labels 1 to 26 of the files are the classes 0 to 25.

    Raises
    ------
    DatasetError
        If a file is missing or damaged, or a label is not 1 to 26.
    """
    archive_path = path / EMNIST_ARCHIVE
    if LETTERS not in _prefixes(path) and os.path.isfile(archive_path):
        with opened_zip(archive_path) as archive:
            arrays = _read(_letters_in(archive, archive_path), True, 27)
    else:
        _, readers = _found(path, LETTERS)
        arrays = _read(readers, True, 27)
    for key, labels in (("y_train", arrays[1]), ("y_test", arrays[3])):
        if not labels.all():
            raise DatasetError(f"{path}: {key}[{int(np.argmin(labels))}] is 0; EMNIST's letters are 1 to 26")
    letters = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return Dataset(name, arrays[0], arrays[1] - 1, arrays[2], arrays[3] - 1, classes=26, labels=letters)


def _letters_in(archive: zipfile.ZipFile, path: Path) -> Readers:
    """Return readers of the four files of letters in EMNIST's archive, after checking what its directory says."""
    readers: Readers = {}
    for member in archive.infolist():
        match = _NAME.fullmatch(member.filename.rpartition("/")[2])
        if match is None or match["prefix"] != LETTERS:
            continue
        where = f"{path}: {match[0]}"
        if _key(match) in readers:
            raise DatasetError(f"{where} occurs twice")
        check_member(where, member, os.path.getsize(path))
        readers[_key(match)] = (where, partial(_of_archive, archive, member, where))
    for key in PARTS.values():
        if key not in readers:
            raise DatasetError(f"{path}: no {LETTERS}-{key}-…; the archive of EMNIST's IDX files is required")
    return readers


def _of_archive(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> np.ndarray:
    with archive.open(member) as stream:
        return read_stream(where, stream, member.file_size)


def _read(
    readers: Readers, transposed: bool, classes: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images and labels of the training part, then of the test part."""
    result = []
    for part in ("train", "test"):
        (images_path, _), (labels_path, _) = readers[f"{part}-images"], readers[f"{part}-labels"]
        pixels = _of_rank(readers[f"{part}-images"], 3, "images")
        labels = _of_rank(readers[f"{part}-labels"], 1, "labels")
        if len(pixels) != len(labels):
            raise DatasetError(
                f"{images_path} has {len(pixels)} images and {os.path.basename(labels_path)} {len(labels)} labels; "
                "the two numbers must be equal"
            )
        if classes is not None:
            check_labels(f"{labels_path}: label", labels, classes)
        upright = pixels.transpose(0, 2, 1) if transposed else pixels
        images = np.empty((*upright.shape, 1), np.float32)
        np.divide(upright, 255, dtype=np.float32, out=images[..., 0])
        result += [images, labels.astype(np.int64)]
    return result[0], result[1], result[2], result[3]


def _of_rank(reader: tuple[str, Callable[[], np.ndarray]], rank: int, content: str) -> np.ndarray:
    path, read = reader
    elements = read()
    if elements.ndim != rank:
        raise DatasetError(f"{path}: shape {elements.shape}; {content} have rank {rank}")
    return elements


def _key(match: re.Match[str]) -> str:
    return f"{'train' if match['part'] == 'train' else 'test'}-{match['content']}"


def _prefixes(folder: Path) -> dict[str, dict[str, str]]:
    """Return, for each prefix of IDX files in a folder, their names by what they hold; MNIST's own have none, ""."""
    found: dict[str, dict[str, str]] = {}
    # A plain file comes before a compressed one, and MNIST's own names before their variants.
    for name in sorted(contents(folder), key=lambda name: (name.endswith(".gz"), ".idx" in name, name)):
        match = _NAME.fullmatch(name)
        if match is not None and os.path.isfile(folder / name):
            found.setdefault(match["prefix"] or "", {}).setdefault(_key(match), name)
    return found


def _found(folder: Path, prefix: str | None) -> tuple[str, Readers]:
    """Return the prefix of the four files in a folder, and readers of them; None takes the only prefix there is."""
    there = _prefixes(folder)
    if prefix is None:
        if len(there) > 1 and "" not in there:
            names = sorted(there)
            raise DatasetError(
                f"{folder}: holds several data sets, {', '.join(names)}; name one of them: {folder / names[0]}"
            )
        prefix = "" if "" in there or not there else next(iter(there))
    files = there.get(prefix, {})
    for name, key in PARTS.items():
        if key not in files:
            missing = f"{prefix}-{name.replace('t10k', 'test')}" if prefix else name
            raise DatasetError(
                f"{folder}: no file {missing} or {missing}.gz; the folder must hold all four IDX files; "
                f"{described(folder)}"
            )
    readers: Readers = {}
    for key, file in files.items():
        path = folder / file
        readers[key] = (str(path), partial(read_idx, path))
    return prefix, readers
