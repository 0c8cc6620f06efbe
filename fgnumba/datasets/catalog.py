"""Load a data set by its name, or from a file or folder."""

import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np

from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.download import REMOTES, fetch
from fgnumba.datasets.idx import load_idx_folder
from fgnumba.datasets.npz import load_npz
from fgnumba.errors import DatasetError, did_you_mean
from fgnumba.validation.paths import expanded

NAMES = ("digits", *REMOTES)


def load(name: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load a data set by name, or from a path.

    Parameters
    ----------
    name : str or path
        One of the names, or a path, of this table. Every sample is float32.

        ======================= ==============================================================================
        ``"digits"``            embedded: 1,797 handwritten digits, (8, 8, 1) in [0, 1]; 1,438 train, 359 test
        ``"mnist"``             60,000 and 10,000 handwritten digits, (28, 28, 1) in [0, 1]
        ``"fashion-mnist"``     60,000 and 10,000 pieces of clothing, (28, 28, 1) in [0, 1]
        a path to an ``.npz``   keys x_train, y_train, x_test, y_test; features as they are, **not scaled**
        a path to a folder      the four IDX files, named as MNIST's; images divided by 255
        ======================= ==============================================================================

        A folder that has the same name as a data set is reached by a path such as ``./mnist``.
    data_dir : str or path, optional
        The folder that holds the four IDX files of MNIST or Fashion-MNIST, plain or as ``.gz``. By default
        they are downloaded once, compared with their checksums, and kept in the user's cache folder.

    Returns
    -------
    Dataset
        The training part and the test part, checked.

    Raises
    ------
    DatasetError
        If the name is unknown, or the data are missing, damaged, or hold impossible values.

    Examples
    --------
    >>> import fgnumba as fg
    >>> digits = fg.datasets.load("digits")
    >>> digits.x_train.shape, digits.x_test.shape, digits.classes
    ((1438, 8, 8, 1), (359, 8, 8, 1), 10)
    """
    source = os.fsdecode(name)
    if source not in NAMES:
        source = expanded(source, "data", DatasetError)
    if data_dir is not None and source not in REMOTES:
        raise DatasetError(f"data_dir applies to {' and '.join(REMOTES)}; {source!r} is not read from one")
    if source == "digits":
        return _digits()
    if source in REMOTES:
        return load_idx_folder(fetch(source) if data_dir is None else data_dir, source, classes=10)
    return _reader(source)(source)


def _reader(source: str) -> Callable[[str], Dataset]:
    # os.path's tests, unlike Path's, answer False for a name that is too long or otherwise impossible.
    if os.path.isdir(source):
        return lambda folder: load_idx_folder(folder, Path(folder).resolve().name)
    is_npz = source.lower().endswith(".npz")
    if os.path.exists(source):
        if is_npz:
            return load_npz
        raise DatasetError(f"{source}: neither an .npz file nor a folder with IDX files")
    if is_npz or Path(source).name != source:
        raise DatasetError(f"{source}: no such file or folder")
    raise DatasetError(f"no data set is called {source!r}{did_you_mean(source, NAMES)}")


def _digits() -> Dataset:
    with (
        resources.files("fgnumba.datasets").joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        images = np.divide(arrays["images"][..., np.newaxis], 16, dtype=np.float32)
        labels = arrays["labels"].astype(np.int64)
        train, test = arrays["train"], arrays["test"]
    return Dataset("digits", images[train], labels[train], images[test], labels[test], classes=10)
