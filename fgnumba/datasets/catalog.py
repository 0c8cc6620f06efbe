"""Load a data set by its name, or from a file or folder."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, overload

import numpy as np

from fgnumba.datasets.cifar import holds_cifar, load_cifar
from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.download import REMOTES, fetch
from fgnumba.datasets.idx_folder import load_emnist_letters, load_idx_folder, names_a_prefix
from fgnumba.datasets.npz import load_npz
from fgnumba.datasets.tables import TableDataset, load_table
from fgnumba.datasets.tables.reading import is_table
from fgnumba.datasets.texts import TextDataset, text
from fgnumba.datasets.texts.alphabet import CHARACTERS
from fgnumba.datasets.texts.loading import CONTEXT
from fgnumba.errors import ConfigError, DatasetError, did_you_mean, shown
from fgnumba.objects.code import DATASETS_GROUP, external, installed, is_code
from fgnumba.validation.paths import expanded, path_of

NAMES = ("digits", *REMOTES)


@overload
def load(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    target: None = None,
    task: str | None = None,
    drop: str | Sequence[str] | None = None,
    context: None = None,
    symbols: None = None,
) -> Dataset: ...


@overload
def load(
    name: str | os.PathLike[str],
    data_dir: None = None,
    target: None = None,
    task: None = None,
    drop: None = None,
    *,
    context: int,
    symbols: str | None = None,
) -> TextDataset: ...


@overload
def load(
    name: str | os.PathLike[str],
    data_dir: None = None,
    target: None = None,
    task: None = None,
    drop: None = None,
    context: int | None = None,
    *,
    symbols: str,
) -> TextDataset: ...


@overload
def load(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    target: str | Sequence[str],
    task: str | None = None,
    drop: str | Sequence[str] | None = None,
    context: None = None,
    symbols: None = None,
) -> TableDataset: ...


def load(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    target: str | Sequence[str] | None = None,
    task: str | None = None,
    drop: str | Sequence[str] | None = None,
    context: int | None = None,
    symbols: str | None = None,
) -> Dataset:
    """Load a data set by name, or from a path.

    Parameters
    ----------
    name : str or path
        One of the names, or a path, of this table. Every example is float32; those of a text are whole numbers.

        ======================= ==============================================================================
        ``"digits"``            embedded: 1,797 handwritten digits, (8, 8, 1) in [0, 1]; 1,438 train, 359 test
        ``"mnist"``             60,000 and 10,000 handwritten digits, (28, 28, 1) in [0, 1]
        ``"fashion-mnist"``     60,000 and 10,000 pieces of clothing, (28, 28, 1) in [0, 1]
        ``"kmnist"``            60,000 and 10,000 Japanese characters, (28, 28, 1) in [0, 1]
        ``"emnist-letters"``    124,800 and 20,800 letters A to Z, upright, (28, 28, 1) in [0, 1]
        ``"cifar-10"``          50,000 and 10,000 colour images of ten kinds, (32, 32, 3) in [0, 1]
        a path to an ``.npz``   keys x_train, y_train, x_test, y_test; bytes above 127 are divided by 255
        a path to a folder      four IDX files, whose names end like MNIST's; or CIFAR-10's binary files
        a path to a table       with `target`: ``.csv``, ``.tsv``, ``.parquet``, or ``.npz`` of columns (n,)
        a path to a text        ``.txt``, or with `context` or `symbols` any UTF-8 file: windows of its characters
        an entry point          ``fgnumba.datasets`` of an installed package: a :class:`Dataset`, or what returns one
        ======================= ==============================================================================

        A folder that has the same name as a data set is reached by a path such as ``./mnist``. Where a folder holds
        IDX files of several data sets, such as ``emnist-digits-…`` and ``emnist-letters-…``, the path goes on with
        what their names begin with: ``DIR/emnist-digits``.
    data_dir : str or path, optional
        The folder that holds the files of a data set that is not included: four IDX files, plain or as ``.gz``; for
        emnist-letters, also ``gzip.zip``; for cifar-10, the six ``.bin`` files or ``cifar-10-binary.tar.gz``. By
        default they are downloaded once, compared with their checksums, and kept in the user's cache folder.
    target : str or sequence of str, optional
        The name of the column of a table that is to be predicted, or several of numbers. The other columns are the
        features: numbers are standardised, text becomes one feature for each category, missing cells are replaced and
        marked. A fifth of the rows, stratified by class, is the test part. None (the default): the data are no table.
    task : str, optional
        What the target of a table is taken for: ``"classification"``; ``"regression"``; or ``"labels"``, one column
        of two values for each label, which become 0 and 1 for a loss such as :class:`fgnumba.BinaryCrossEntropy`. None
        (the default): text, flags and at most 20 different whole numbers are classes, and other numbers real targets.
    drop : str or sequence of str, optional
        The name of a column of a table that is not read, or several. None (the default): all columns are features.
    context : int, optional
        The number of symbols in a window of a text. None (the default): 64, or the data are no text.
    symbols : str, optional
        What the symbols of a text are: ``"characters"`` or ``"bytes"``. None (the default): characters, or the data
        are no text.

    Returns
    -------
    Dataset
        The training part and the test part, checked. Of a table it is a :class:`TableDataset`, whose ``rules`` bring
        other files to the same features; of a text a :class:`TextDataset`, as :func:`text` loads it.

    Raises
    ------
    ConfigError
        If `target`, `task`, `drop`, `context` or `symbols` is impossible.
    DatasetError
        If the name is unknown, or the data are missing, damaged, or hold impossible values.

    Warns
    -----
    FgWarning
        If the data can be used but are doubtful, or if something was done to them that the table does not say.

    Examples
    --------
    >>> import fgnumba as fg
    >>> digits = fg.datasets.load("digits")
    >>> digits.x_train.shape, digits.x_test.shape, digits.classes
    ((1438, 8, 8, 1), (359, 8, 8, 1), 10)
    """
    source = os.fsdecode(name)
    if context is not None or symbols is not None:
        return _text(source, {"data_dir": data_dir, "target": target, "drop": drop}, context, symbols)
    if is_external(source) and target is None and drop is None and data_dir is None:
        return _external(source)
    if source not in NAMES:
        source = expanded(source, "data", DatasetError)
    if target is not None and source not in NAMES:
        if os.path.isdir(source):
            raise DatasetError(f"{source}: a folder is no table; target applies to a file")
        return load_table(source, target, task, drop)
    if target is not None:
        raise DatasetError(f"target applies to tables; {source!r} has its own labels")
    if drop is not None:
        raise DatasetError(f"drop applies to tables, which have a target; {source!r} is loaded as a whole")
    if data_dir is not None and source not in REMOTES:
        raise DatasetError(f"data_dir applies to {', '.join(REMOTES)}; {source!r} is not read from one")
    if source == "digits":
        return _digits()
    if source in REMOTES:
        folder = fetch(source) if data_dir is None else path_of(data_dir, "data_dir", DatasetError)
        return _NAMED[source](folder, source)
    return _reader(source)(source)


def is_external(name: str) -> bool:
    """Return whether a name is that of another package's data: an entry point, or ``package.module:name``.

    Parameters
    ----------
    name : str
        What was given as data. What is there as a file or folder is no such name.
    """
    if name in NAMES or os.path.lexists(name):
        return False
    if is_code(name):
        return True
    # Names with a suffix or a folder are paths; looking for entry points takes some milliseconds.
    is_path = os.path.basename(name) != name or os.path.splitext(name)[1]
    return not is_path and name in installed(DATASETS_GROUP)


def _text(source: str, others: Mapping[str, Any], context: int | None, symbols: str | None) -> TextDataset:
    """Return the text in a file, after checking that nothing is asked for that a text does not have."""
    for other, value in others.items():
        if value is not None:
            raise ConfigError(
                f"{other} is {shown(value)} beside context or symbols, which are those of a text"
            )
    if source in NAMES and not os.path.lexists(source):
        raise DatasetError(f"context and symbols apply to texts; {source!r} is a data set of images")
    if not os.path.lexists(expanded(source, "data", DatasetError)):
        raise DatasetError(f"{source}: no such file")
    return text(source, CONTEXT if context is None else context, CHARACTERS if symbols is None else symbols)


def _external(name: str) -> Dataset:
    found = external("data", name, DATASETS_GROUP)
    if callable(found) and not isinstance(found, Dataset):
        try:
            found = found()
        # It is code of another package, and can raise anything.
        except Exception as error:
            raise DatasetError(f"data {shown(name)}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Dataset):
        raise DatasetError(f"data {shown(name)} is {shown(found)}; a fgnumba.datasets.Dataset is required")
    return found


_NAMED: dict[str, Callable[[Path, str], Dataset]] = {
    **dict.fromkeys(("mnist", "fashion-mnist", "kmnist"), partial(load_idx_folder, classes=10)),
    "emnist-letters": load_emnist_letters,
    "cifar-10": load_cifar,
}


def _reader(source: str) -> Callable[[str], Dataset]:
    path = Path(source)
    # os.path's tests, unlike Path's, answer False for a name that is too long or otherwise impossible.
    if os.path.isdir(source):
        name = path.resolve().name
        return lambda _: load_cifar(path, name) if holds_cifar(path) else load_idx_folder(path, name)
    if os.path.isfile(source) and holds_cifar(path):
        return lambda _: load_cifar(path, path.name)
    if names_a_prefix(path):
        return lambda _: load_idx_folder(path, path.name)
    if source.lower().endswith(".txt") and os.path.exists(source):
        return text
    if is_table(source) and os.path.exists(source):
        raise DatasetError(
            f"{source}: a table: target, the name of the column that is to be predicted, is required (--target)"
        )
    is_npz = source.lower().endswith(".npz")
    if os.path.exists(source):
        if is_npz:
            return load_npz
        raise DatasetError(
            f"{source}: neither an .npz file nor a folder with IDX files nor CIFAR-10's archive"
        )
    if is_npz or Path(source).name != source:
        raise DatasetError(f"{source}: no such file or folder")
    known = (*NAMES, *installed(DATASETS_GROUP))
    raise DatasetError(f"no data set is called {source!r}{did_you_mean(source, known)}")


def _digits() -> Dataset:
    with (
        resources.files("fgnumba.datasets").joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        images = np.divide(arrays["images"][..., np.newaxis], 16, dtype=np.float32)
        labels = arrays["labels"].astype(np.int64)
        train, test = arrays["train"], arrays["test"]
    return Dataset("digits", images[train], labels[train], images[test], labels[test], classes=10)
