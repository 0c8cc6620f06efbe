"""Data sets of one's own, as NumPy's ``.npz`` archives."""

import os
from pathlib import Path

import numpy as np

from fgnumba.datasets.dataset import Dataset, first_false
from fgnumba.errors import DatasetError

KEYS = ("x_train", "y_train", "x_test", "y_test")
# A label beyond this is an identifier, not a class: a model would be given that many outputs.
MAX_CLASSES = 1 << 16


def load_npz(path: str | os.PathLike[str]) -> Dataset:
    """Load ``x_train``, ``y_train``, ``x_test`` and ``y_test`` from an ``.npz`` archive.

    Parameters
    ----------
    path : the archive. Features are (n, K), (n, H, W) or (n, H, W, C) of any real type; they become float32
        as they are: **nothing is scaled**, so bytes stay 0 to 255. (n, H, W) becomes (n, H, W, 1). Labels are
        (n,) of any integer type, from 0 up to 65,535; the number of classes is the largest label of both
        parts plus 1.

    Raises
    ------
    DatasetError
        Where the archive cannot be opened or is damaged, an array is missing or pickled, or its type, shape
        or values are not those above. Pickled arrays are never loaded.
    """
    path = Path(path)
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
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DatasetError(
                    f"{path}: holds a single array; an .npz archive of {', '.join(KEYS)} is required"
                )
            with archive:
                missing = [key for key in KEYS if key not in archive.files]
                if missing:
                    raise DatasetError(f"{path}: no {', '.join(missing)}; {', '.join(KEYS)} are required")
                return {key: _member(path, archive, key) for key in KEYS}
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    # Damaged bytes surface as whatever zipfile, zlib or NumPy met first.
    except Exception as error:
        raise DatasetError(f"{path}: not an .npz archive, or a damaged one") from error


def _member(path: Path, archive: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    try:
        array = archive[key]
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DatasetError(
                f"{path}: {key} is a pickled array of Python objects; save it as numbers"
            ) from error
        raise DatasetError(f"{path}: {key} is damaged ({' '.join(str(error).split())})") from error
    except MemoryError as error:
        raise DatasetError(f"{path}: {key} claims more memory than there is") from error
    # A member that is no .npy file comes back as bytes.
    if not isinstance(array, np.ndarray):
        raise DatasetError(f"{path}: {key} is not an array; save it with numpy.savez")
    return array


def _features(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise DatasetError(f"{path}: {key} is {array.dtype}; real numbers are required")
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
