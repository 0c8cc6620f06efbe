"""Hold out a part of the training examples for validation. Every class keeps its share in both parts.

A text is cut by position: what is held out is its end.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fgnumba.datasets.dataset import MAX_SEED, Dataset
from fgnumba.datasets.texts import TextDataset
from fgnumba.errors import ConfigError, DatasetError, shown
from fgnumba.validation import as_float, whole_number


class Split(NamedTuple):
    """A data set whose training part is cut in two.

    Parameters
    ----------
    training : Dataset
        The data set without the examples that are held out. Its test part is unchanged.
    x : ndarray, (n, K) or (n, H, W, C) float32; of a text (N,) uint8 or uint16
        The examples that are held out; of a text its last symbols as one stream.
    y : ndarray, (n,) int64 or (n, N) float32; of a text (N,) uint8 or uint16
        The targets of the examples that are held out.
    """

    training: Dataset
    x: np.ndarray
    y: np.ndarray


def split(dataset: Dataset, fraction: float, seed: int) -> Split:
    """Hold out a share of the training part, drawn at random from each class. The examples stay in their order.

    Where the targets are real numbers, the share is drawn from all examples alike.

    Parameters
    ----------
    dataset : Dataset
        The data set. It is not changed; the two parts are copies.
    fraction : float
        The share of the training part to hold out, in (0, 1). Every class keeps at least one example to train on.
    seed : int
        The seed of the draw, 0 or above and below 2**64. The same seed gives the same split.

    Returns
    -------
    Split
        The data set that is left to train on, and the examples and labels that are held out.

    Raises
    ------
    ConfigError
        If `fraction` or `seed` is out of its range.
    DatasetError
        If the training part has so few examples that none can be held out.
    """
    return cut(dataset, judges(dataset, fraction, seed))


def cut(dataset: Dataset, held: np.ndarray) -> Split:
    """Return a data set whose training part is cut in two by a mask.

    Parameters
    ----------
    dataset : Dataset
        The data set. It is not changed; the two parts are copies.
    held : ndarray, (n,) bool
        True for each example that is held out, as :func:`judges` returns it.
    """
    if isinstance(dataset, TextDataset):
        kept = len(held) - int(held.sum())
        rest = dataset.since(kept)
        return Split(dataset.until(kept), rest[:-1], rest[1:])
    x, y = dataset.x_train, dataset.y_train
    return Split(replace(dataset, x_train=x[~held], y_train=y[~held]), x[held], y[held])


def judges(dataset: Dataset, fraction: float, seed: int) -> np.ndarray:
    """Return a mask (n,) bool, True for each training example that :func:`split` holds out.

    Its parameters and errors are those of :func:`split`.
    """
    share = as_float(fraction)
    if share is None or not 0 < share < 1:
        raise ConfigError(f"fraction is {shown(fraction)}; a number between 0 and 1 is required")
    try:
        number = whole_number("seed", seed, 0, MAX_SEED)
    except ConfigError:
        raise ConfigError(
            f"seed is {shown(seed)}; a whole number, 0 or above and below 2**64, is required"
        ) from None
    if isinstance(dataset, TextDataset):
        return _last(dataset, share)
    labelled = dataset.classes is not None and dataset.y_train.ndim == 1
    strata = dataset.y_train if labelled else np.zeros(len(dataset.y_train), np.int64)
    held = held_out(strata, share, number)
    if not held.any():
        raise DatasetError(
            f"{dataset.name}: {share} of {len(held)} training examples leave none to validate on; "
            "a larger fraction or data set is required"
        )
    return held


def _last(dataset: TextDataset, share: float) -> np.ndarray:
    """Return a mask of the windows of a text, True for the last ones, which are held out."""
    windows = len(dataset.x_train)
    count = round(share * windows)
    if not 0 < count < windows:
        raise DatasetError(
            f"{dataset.name}: {share} of {windows} windows of {dataset.context} symbols leave none to "
            f"{'train' if count else 'validate'} on; a longer text, or a shorter context, is required"
        )
    return np.arange(windows) >= windows - count


def validation_split(dataset: Dataset, fraction: float, seed: int) -> Dataset:
    """Return `dataset` with its test part replaced by examples that are held out of its training part.

    A search for the best options that compares them on this test part never sees the true test examples.

    Parameters
    ----------
    dataset : Dataset
        The data set. It is not changed; its test part is not in the result.
    fraction : float
        The share of the training part to hold out, in (0, 1). Every class keeps at least one example to train on.
    seed : int
        The seed of the draw, 0 or above and below 2**64. The same seed gives the same split.

    Returns
    -------
    Dataset
        The two parts as a data set; its name ends in ``-validation``.

    Raises
    ------
    ConfigError
        If `fraction` or `seed` is out of its range.
    DatasetError
        If the training part has so few examples that none can be held out.

    Examples
    --------
    >>> import fgnumba as fg
    >>> digits = fg.datasets.load("digits")
    >>> part = fg.datasets.validation_split(digits, 0.25, seed=0)
    >>> len(part.x_train), len(part.x_test)
    (1078, 360)
    """
    training, x, y = split(dataset, fraction, seed)
    if isinstance(training, TextDataset):
        return training.tested_on(f"{dataset.name}-validation", np.append(x, y[-1:]))
    return replace(training, name=f"{dataset.name}-validation", x_test=x, y_test=y)


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return a mask (n,) bool that is True for about `fraction` of the examples of each class, drawn at random."""
    generator = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    # Rounding the running total, not each class's share, keeps the sum near `fraction` even if classes are small.
    totals = np.rint(fraction * np.cumsum(counts)).astype(np.int64)
    shares = np.minimum(np.diff(totals, prepend=0), counts - 1)
    mask = np.zeros(len(labels), bool)
    for label, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(labels == label)
        mask[generator.permutation(members)[:share]] = True
    return mask
