"""Hold-outs: samples of the training part that judge and do not train. Every class keeps its share in both."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fgnumba.datasets.dataset import MAX_SEED, Dataset
from fgnumba.errors import ConfigError, DatasetError, shown
from fgnumba.validation import as_float, whole_number


class Split(NamedTuple):
    """A data set whose training part is cut in two.

    Parameters
    ----------
    training : the data set without what is held out; its test part is as before.
    x, y : the samples that are held out, and their labels.
    """

    training: Dataset
    x: np.ndarray
    y: np.ndarray


def split(dataset: Dataset, fraction: float, seed: int) -> Split:
    """Hold out a share of the training part, drawn class by class. Samples stay in their order.

    Parameters
    ----------
    dataset : left as it is; the parts are copies.
    fraction : share of the training part to hold out, in (0, 1). Every class keeps at least one sample to train on.
    seed : a whole number, 0 or above. The same seed gives the same split.

    Raises
    ------
    ConfigError
        Where `fraction` or `seed` is out of range.
    DatasetError
        Where so few samples leave nothing to hold out.
    """
    held = judges(dataset, fraction, seed)
    x, y = dataset.x_train, dataset.y_train
    return Split(replace(dataset, x_train=x[~held], y_train=y[~held]), x[held], y[held])


def judges(dataset: Dataset, fraction: float, seed: int) -> np.ndarray:
    """Return a mask (n,) bool, True for the training samples that :func:`split` holds out; it raises what that does."""
    share = as_float(fraction)
    if share is None or not 0 < share < 1:
        raise ConfigError(f"fraction is {shown(fraction)}; a number between 0 and 1 is required")
    try:
        number = whole_number("seed", seed, 0, MAX_SEED)
    except ConfigError:
        raise ConfigError(
            f"seed is {shown(seed)}; a whole number, 0 or above, is required, and below 2**64"
        ) from None
    held = held_out(dataset.y_train, share, number)
    if not held.any():
        raise DatasetError(
            f"{dataset.name}: {share} of {len(held)} training samples leaves none to validate on; "
            "a larger fraction or data set is required"
        )
    return held


def validation_split(dataset: Dataset, fraction: float, seed: int) -> Dataset:
    """Return `dataset` with its test part replaced by what :func:`split` holds out of its training part.

    A search over options that is judged on the result never sees the test samples.

    Parameters
    ----------
    dataset : its test part is dropped.
    fraction, seed : as :func:`split` takes them.

    Raises
    ------
    ConfigError, DatasetError
        As :func:`split`.
    """
    training, x, y = split(dataset, fraction, seed)
    return replace(training, name=f"{dataset.name}-validation", x_test=x, y_test=y)


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return a mask (n,) bool, True for about `fraction` of each class, drawn at random."""
    generator = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    # Rounding the running total, not each class, keeps the whole to `fraction` where classes are small.
    totals = np.rint(fraction * np.cumsum(counts)).astype(np.int64)
    shares = np.minimum(np.diff(totals, prepend=0), counts - 1)
    mask = np.zeros(len(labels), bool)
    for label, share in zip(classes, shares, strict=True):
        members = np.flatnonzero(labels == label)
        mask[generator.permutation(members)[:share]] = True
    return mask
