"""Labels as they are in files, and the classes 0, 1, … that they become.

Labels that are whole numbers and begin at 0 are classes already. Others (numbers that begin elsewhere, such as 1 to 26,
and texts) become classes in sorted order, and a data set keeps what each class was called.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fgnumba.datasets.dataset import Dataset, Labels, first_false
from fgnumba.errors import DatasetError, FgWarning, printable, shown

MAX_CLASSES = 1 << 16
"""Most classes of a data set. A larger label is an identifier: the model would be given that many outputs."""
MAX_CHARACTERS = 1 << 18
"""Most characters of all names of classes together: a run folder keeps them in its config.toml."""
MOST_NAMED = 10


@dataclass(frozen=True)
class Classes:
    """The classes of the labels of a data set's two parts.

    Parameters
    ----------
    train, test : ndarray, (n,) int64
        The classes of the examples, each in [0, `count`).
    count : int
        The number of classes.
    names : tuple of str or int, optional
        What each class was called. None: 0, 1, ….
    """

    train: np.ndarray
    test: np.ndarray
    count: int
    names: Labels | None


def warn(message: str) -> None:
    """Issue an FgWarning whose message is one printable line."""
    warnings.warn(printable(message), FgWarning, stacklevel=3)


def classes_of(where: str, train: np.ndarray, test: np.ndarray) -> Classes:
    """Return the classes of labels, and warn where a class has no example or is called something else.

    Parameters
    ----------
    where : str
        Where the labels come from, for messages.
    train, test : ndarray, (n,), of whole numbers, flags or text
        The labels of the two parts.

    Raises
    ------
    DatasetError
        If a label is no class, or if there are too many classes.
    """
    parts = [
        array.astype(np.uint8) if array.dtype.kind == "b" else _text(where, array) for array in (train, test)
    ]
    train, test = parts
    # A negative number is no class, and often stands for an unknown one; but -1 and 1 are two classes.
    if train.dtype.kind != "U" and int(train.min()) <= 0 and set(np.unique(train).tolist()) != {-1, 1}:
        return counted(where, train, test)
    names = np.union1d(train, test)
    _check_names(where, names)
    kept = tuple(names.tolist())
    warn(
        f"{where}: the labels are {_listed(kept)}; they become the classes 0 to {len(kept) - 1} in this order"
    )
    encoded = [np.searchsorted(names, part).astype(np.int64) for part in parts]
    _warn_of_missing(where, np.bincount(encoded[0], minlength=len(kept)), kept)
    return Classes(encoded[0], encoded[1], len(kept), kept)


def counted(where: str, train: np.ndarray, test: np.ndarray, quiet: bool = False) -> Classes:
    """Return the classes of labels that are whole numbers from 0: the labels themselves.

    Parameters
    ----------
    where : str
        Where the labels come from, for messages.
    train, test : ndarray, (n,), of whole numbers
        The labels of the two parts.
    quiet : bool, optional
        Whether to say nothing of classes without an example. By default False.

    Raises
    ------
    DatasetError
        If a label is below 0 or above 65,535.
    """
    for key, array in (("y_train", train), ("y_test", test)):
        possible = (array >= 0) & (array < MAX_CLASSES)
        if not possible.all():
            index = first_false(possible)
            raise DatasetError(
                f"{where}: {key}[{index}] is {array.item(*index)}; labels are 0 to at most {MAX_CLASSES - 1}"
            )
    train, test = train.astype(np.int64), test.astype(np.int64)
    count = 1 + int(max(train.max(), test.max(initial=0)))
    if not quiet:
        _warn_of_missing(where, np.bincount(train, minlength=count), range(count))
    return Classes(train, test, count, None)


def recoded(dataset: Dataset, names: Labels | None) -> Dataset:
    """Return a data set whose classes have the numbers that a model was trained with.

    Parameters
    ----------
    dataset : Dataset
        The data set, whose file may have other labels than the one that the model was trained on.
    names : tuple of str or int, optional
        What the classes of the model were called, in their order. None: 0, 1, ….

    Raises
    ------
    DatasetError
        If the data set has a label that the model does not know.
    """
    if dataset.classes is None or dataset.labels == names:
        return dataset
    if names is None:
        names = tuple(range(1 + max((n for n in dataset.labels or () if isinstance(n, int)), default=0)))
    own = dataset.labels if dataset.labels is not None else tuple(range(dataset.classes))
    number = {name: index for index, name in enumerate(names)}
    used = np.unique(np.concatenate([dataset.y_train, dataset.y_test]))
    for index in used.tolist():
        if own[index] not in number or type(own[index]) is not type(names[number[own[index]]]):
            raise DatasetError(
                f"{dataset.name}: the label {shown(own[index])} is none of those that the model was trained on, "
                f"{_listed(names)}"
            )
    table = np.array([number.get(name, 0) for name in own], np.int64)
    return replace(
        dataset,
        y_train=table[dataset.y_train],
        y_test=table[dataset.y_test],
        classes=len(names),
        labels=names,
    )


def _check_names(where: str, names: np.ndarray) -> None:
    if len(names) > MAX_CLASSES:
        raise DatasetError(f"{where}: {len(names)} different labels; at most {MAX_CLASSES} are possible")
    characters = len(names) * 20 if names.dtype.kind != "U" else int(np.char.str_len(names).sum())
    if characters > MAX_CHARACTERS:
        raise DatasetError(
            f"{where}: the labels have {characters} characters together; at most {MAX_CHARACTERS} are possible"
        )


def _text(where: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "S":
        return array
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError:
        raise DatasetError(
            f"{where}: the labels are bytes that are no UTF-8 text; whole numbers or text are required"
        ) from None


def _warn_of_missing(where: str, counts: np.ndarray, names: Sequence[object]) -> None:
    missing = np.flatnonzero(counts == 0).tolist()
    if missing:
        what = "class has" if len(missing) == 1 else "classes have"
        warn(
            f"{where}: {len(missing)} of {len(names)} {what} no training example: "
            f"{_listed([names[index] for index in missing])}; the model is given an output for each class"
        )


def _listed(names: Sequence[object]) -> str:
    """Return names with commas, without the middle where there are many."""
    if len(names) <= MOST_NAMED:
        return ", ".join(map(shown, names))
    half = MOST_NAMED // 2
    return f"{', '.join(map(shown, names[:half]))}, … {shown(names[-1])} ({len(names)} in all)"
