"""Load your own data set from NumPy's ``.npz`` archive."""

import os
import zipfile
from io import BufferedReader
from pathlib import Path

import numpy as np

from fgnumba.datasets.dataset import Dataset, first_false
from fgnumba.datasets.idx import MAX_GZIP_RATIO
from fgnumba.datasets.npy import read_npy
from fgnumba.errors import DatasetError
from fgnumba.storage.files import open_regular
from fgnumba.validation.paths import path_of

KEYS = ("x_train", "y_train", "x_test", "y_test")
# A larger label is an identifier, not a class: the model would be given that many outputs.
MAX_CLASSES = 1 << 16
MAX_RATIO = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: MAX_GZIP_RATIO}
"""The compression methods that NumPy uses, and the most bytes that one compressed byte can yield in each."""
MAX_DIRECTORY = 1 << 26
ENCRYPTED = 1


def load_npz(path: str | os.PathLike[str]) -> Dataset:
    """Load ``x_train``, ``y_train``, ``x_test`` and ``y_test`` from an ``.npz`` archive.

    Parameters
    ----------
    path : str or path
        The archive. The features are (n, K), (n, H, W) or (n, H, W, C) of any real dtype, and (n, H, W) becomes
        (n, H, W, 1). They are converted to float32 and **not scaled**: bytes stay 0 to 255. The labels are (n,)
        of any integer dtype, from 0 to at most 65,535. The number of classes is the largest label of both parts
        plus 1.

    Returns
    -------
    Dataset
        The training part and the test part, checked. Its name is the name of the file.

    Raises
    ------
    DatasetError
        If the archive cannot be opened or is damaged, if an array is missing or pickled, or if its dtype, shape
        or values are not as described above. Pickled arrays are never loaded.
    """
    path = path_of(path, "path", DatasetError)
    arrays = _read(path)
    labels = {part: _labels(path, f"y_{part}", arrays[f"y_{part}"]) for part in ("train", "test")}
    return Dataset(
        name=path.name,
        x_train=_features(path, "x_train", arrays["x_train"]),
        y_train=labels["train"],
        x_test=_features(path, "x_test", arrays["x_test"]),
        y_test=labels["test"],
        classes=1 + max(int(part.max()) for part in labels.values()),
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with open_regular(path) as file:
            if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                raise DatasetError(
                    f"{path}: holds a single array; an .npz archive of {', '.join(KEYS)} is required"
                )
            with zipfile.ZipFile(_Guarded(file)) as archive:
                members = _members(path, archive.infolist())
                return {key: _member(path, archive, key, member) for key, member in members.items()}
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    # Damaged bytes can raise any error of zipfile's or zlib's.
    except Exception as error:
        raise DatasetError(f"{path}: not an .npz archive, or a damaged one") from error


class _Guarded:
    """A file that refuses to read a piece larger than MAX_DIRECTORY, whatever size the archive's directory claims."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY:
            raise zipfile.BadZipFile("a directory of so many members")
        return self._file.read(size)


def _members(path: Path, members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
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
        if member.flag_bits & ENCRYPTED:
            raise DatasetError(f"{path}: {key} is encrypted; save it with numpy.savez")
        if member.compress_type not in MAX_RATIO:
            raise DatasetError(
                f"{path}: {key} is compressed by method {member.compress_type}; save it with numpy.savez"
            )
        if member.file_size > member.compress_size * MAX_RATIO[member.compress_type]:
            raise DatasetError(
                f"{path}: {key} is damaged: {member.compress_size} bytes cannot hold the {member.file_size} "
                "that they claim"
            )
    return found


def _member(path: Path, archive: zipfile.ZipFile, key: str, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        try:
            array = read_npy(stream, member.file_size)
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


def _labels(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "iu":
        raise DatasetError(f"{path}: {key} is {array.dtype}; integer labels are required")
    if array.ndim != 1 or array.size == 0:
        raise DatasetError(f"{path}: {key} has shape {array.shape}; (n,) with at least one label is required")
    possible = (array >= 0) & (array < MAX_CLASSES)
    if not possible.all():
        index = first_false(possible)
        raise DatasetError(
            f"{path}: {key}[{index}] is {array.item(*index)}; labels are 0 to at most {MAX_CLASSES - 1}"
        )
    return array.astype(np.int64)
