"""Load your own data set from NumPy's ``.npz`` archive."""

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from fgnumba.datasets.archives import Guarded, check_member, read_or_refused
from fgnumba.datasets.dataset import Dataset, first_false
from fgnumba.datasets.labels import classes_of, counted, warn
from fgnumba.datasets.npy import read_npy
from fgnumba.errors import DatasetError
from fgnumba.storage.files import open_regular, size_of
from fgnumba.validation.images import channels_seem_first
from fgnumba.validation.paths import path_of

KEYS = ("x_train", "y_train", "x_test", "y_test")
BYTES, LARGE, FEW = 127, 100.0, 20
"""Bytes above `BYTES` are taken for pixels, which are divided by 255. Features above `LARGE` are doubtful: initial
weights are drawn for inputs of about unit size. Whole numbers of at most `FEW` values are rarely real targets."""


@dataclass(frozen=True, eq=False)
class BytesDataset(Dataset):
    """A data set whose features were bytes (uint8) in its file.

    Parameters
    ----------
    name, x_train, y_train, x_test, y_test, classes, labels
        As for :class:`Dataset`.
    divisor : int
        What the bytes were divided by: 255, or 1 where they were too small for pixels.
    """

    divisor: int = field(kw_only=True)


def load_npz(path: str | os.PathLike[str], as_stored: bool = False) -> Dataset:
    """Load ``x_train``, ``y_train``, ``x_test`` and ``y_test`` from an ``.npz`` archive.

    Parameters
    ----------
    path : str or path
        The archive. The features are (n, K), (n, H, W) or (n, H, W, C) of any real dtype, and (n, H, W) becomes
        (n, H, W, 1). They are converted to float32. Bytes (uint8) whose largest value in the training part is above
        127 are pixels and divided by 255; nothing else is scaled. The labels are (n,) whole numbers or text. Whole
        numbers from 0 to at most 65,535 are classes as they are, and the number of classes is the largest label of
        both parts plus 1. Whole numbers that do not begin at 0, and text, become classes in sorted order. Targets of
        floating-point numbers, (n,) or (n, N), are real targets.
    as_stored : bool, optional
        Whether to read as earlier versions did, for runs that they trained: nothing is scaled, and labels are classes
        as they are. By default False.

    Returns
    -------
    Dataset
        The training part and the test part, checked. Its name is the name of the file.

    Raises
    ------
    DatasetError
        If the archive cannot be opened or is damaged, if an array is missing or pickled, or if its dtype, shape
        or values are not as described above. Pickled arrays are never loaded.

    Warns
    -----
    FgWarning
        If the features are divided by 255, if they are far from unit size, if an image's channels seem to come first,
        if a class has no training example, or if labels become classes of other numbers.
    """
    path = path_of(path, "path", DatasetError)
    arrays = _read(path)
    targets = {key: _targets(path, key, arrays.pop(key)) for key in ("y_train", "y_test")}
    features = [_features(path, key, arrays[key]) for key in ("x_train", "x_test")]
    y_train, y_test = targets.values()
    for part, x, y in (("train", features[0], y_train), ("test", features[1], y_test)):
        if len(x) and len(x) != len(y):
            raise DatasetError(
                f"{path}: x_{part} has {len(x)} examples and y_{part} {len(y)} labels; the two numbers must be equal"
            )
    if as_stored:
        if {y_train.dtype.kind, y_test.dtype.kind} - set("iu"):
            raise DatasetError(
                f"{path}: y_train is {y_train.dtype}, y_test {y_test.dtype}; integer labels are required"
            )
        known = counted(str(path), y_train, y_test, quiet=True)
        return Dataset(path.name, features[0], known.train, features[1], known.test, known.count)
    text = [y.dtype.kind == "U" or y.dtype.kind == "S" for y in (y_train, y_test)]
    if text[0] != text[1] or (y_test.dtype.kind == "f" and y_train.dtype.kind != "f"):
        raise DatasetError(
            f"{path}: y_train is {y_train.dtype} and y_test {y_test.dtype}; the same kind is required"
        )
    kind: Callable[..., Dataset] = Dataset
    if _are_bytes(arrays):
        # Before they are scaled, which is done in place.
        kind = partial(BytesDataset, divisor=255 if _largest(features[0]) > BYTES else 1)
    x_train, x_test = _scaled(path, arrays, features)
    if y_train.dtype.kind == "f":
        y_test = y_test.reshape(len(y_test), -1).astype(np.float32, copy=False)
        _warn_of_whole_targets(path, y_train)
        return kind(path.name, x_train, y_train, x_test, y_test)
    known = classes_of(str(path), y_train, y_test)
    return kind(path.name, x_train, known.train, x_test, known.test, known.count, known.names)


def _read(path: Path) -> dict[str, np.ndarray]:
    with read_or_refused(path, "not an .npz archive, or a damaged one"), open_regular(path) as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
            raise DatasetError(
                f"{path}: holds a single array; an .npz archive of {', '.join(KEYS)} is required"
            )
        with zipfile.ZipFile(Guarded(file)) as archive:
            members = _members(path, archive.infolist(), size_of(file))
            return {key: _member(path, archive, key, member) for key, member in members.items()}


def _members(path: Path, members: list[zipfile.ZipInfo], there: int) -> dict[str, zipfile.ZipInfo]:
    """Return the member of each key, after checking that it is there once and can be as long as it claims."""
    found: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        key = member.filename.removesuffix(".npy")
        if key in found:
            raise DatasetError(f"{path}: {key} occurs twice")
        if key in KEYS:
            found[key] = member
    missing = [key for key in KEYS if key not in found]
    if missing:
        raise DatasetError(f"{path}: no {', '.join(missing)}; {', '.join(KEYS)} are required")
    for key, member in found.items():
        check_member(f"{path}: {key}", member, there)
    return found


def _member(path: Path, archive: zipfile.ZipFile, key: str, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        try:
            array = read_npy(stream, member.file_size, text=key.startswith("y"))
            # Reading past the end also makes zipfile compare the checksum.
            stream.read(1)
            return array
        except ValueError as error:
            raise DatasetError(f"{path}: {key} is {error}") from None
        except zipfile.BadZipFile as error:
            raise DatasetError(f"{path}: {key} is damaged ({error})") from None


def _features(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    if array.ndim not in (2, 3, 4):
        raise DatasetError(
            f"{path}: {key} has shape {array.shape}; (n, K), (n, H, W) or (n, H, W, C) is required"
        )
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(array, np.float32)
    fits = np.isfinite(features)
    if not fits.all():
        index = first_false(fits)
        raise DatasetError(
            f"{path}: {key}[{index}] is {array.item(*index)}; finite float32 numbers are required"
        )
    return features[..., np.newaxis] if array.ndim == 3 else features


def _targets(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    """Return labels as they are, and real targets as (n, N) float32."""
    if array.dtype.kind == "f":
        if array.ndim not in (1, 2) or 0 in array.shape:
            raise DatasetError(f"{path}: {key} has shape {array.shape}; real targets are (n,) or (n, N)")
        with np.errstate(over="ignore"):
            targets = np.ascontiguousarray(array.reshape(len(array), -1), np.float32)
        if not (finite := np.isfinite(targets)).all():
            index = first_false(finite)
            raise DatasetError(
                f"{path}: {key}[{index}] is {targets.item(*index)}; finite targets are required"
            )
        return targets
    if array.ndim != 1 or array.size == 0:
        raise DatasetError(f"{path}: {key} has shape {array.shape}; (n,) with at least one label is required")
    return array


def _scaled(path: Path, arrays: dict[str, np.ndarray], features: list[np.ndarray]) -> list[np.ndarray]:
    """Divide features that were bytes of pixels by 255, and warn of others that look wrong."""
    train = features[0]
    shape = train.shape
    if len(shape) == 4 and arrays["x_train"].ndim == 4 and channels_seem_first(shape[1:]):
        warn(
            f"{path}: x_train has shape {shape}; do the channels come first? Images are (n, height, width, channels), "
            "and numpy.moveaxis(x, 1, -1) puts the channels last"
        )
    largest = _largest(train)
    if _are_bytes(arrays) and largest > BYTES:
        warn(f"{path}: the features are bytes up to {largest:.0f}; they are divided by 255")
        return [np.divide(array, 255, out=array) for array in features]
    if largest > LARGE:
        warn(
            f"{path}: the features reach {largest:.4g} and are not scaled; weights are drawn for inputs of about unit "
            "size, so bring each feature to a mean near 0 and a deviation near 1"
        )
    return features


def _are_bytes(arrays: dict[str, np.ndarray]) -> bool:
    return {array.dtype.str for array in arrays.values()} == {"|u1"}


def _largest(features: np.ndarray) -> float:
    return max(float(features.max()), -float(features.min())) if features.size else 0.0


def _warn_of_whole_targets(path: Path, targets: np.ndarray) -> None:
    values = np.unique(targets[:, 0])
    if targets.shape[1] == 1 and len(values) <= FEW and (values == np.rint(values)).all():
        warn(
            f"{path}: y_train is floating-point, so its {len(values)} values are real targets (regression); for "
            "classes, save it as whole numbers"
        )
