"""A labelled data set in memory, checked once, so that no later code has to check it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fgnumba.errors import ConfigError, DatasetError, shown
from fgnumba.storage.digests import digest_of
from fgnumba.validation import store, whole_number

MAX_SEED = (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test samples with integer labels.

    n is the number of samples, K the number of features, and H, W, C are height, width and channels of an image.

    Parameters
    ----------
    name : str
        The name of the data set in messages and reports.
    x_train : ndarray, (n, K) or (n, H, W, C) float32, C-contiguous
        The training samples. Every number is finite.
    y_train : ndarray, (n,) int64
        The labels of the training samples, each in [0, `classes`).
    x_test : ndarray, (n, K) or (n, H, W, C) float32, C-contiguous
        The test samples, each of the same shape as a training sample.
    y_test : ndarray, (n,) int64
        The labels of the test samples, each in [0, `classes`).
    classes : int
        The number of classes, at least 1.

    Raises
    ------
    DatasetError
        If an array is not as described above. The message names the array and the index of the first wrong element.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> x, y = np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0])
    >>> dataset = fg.datasets.Dataset("four points", x, y, x_test=x, y_test=y, classes=3)
    >>> dataset.input_shape
    (4,)
    """

    name: str
    x_train: np.ndarray = field(repr=False)
    y_train: np.ndarray = field(repr=False)
    x_test: np.ndarray = field(repr=False)
    y_test: np.ndarray = field(repr=False)
    classes: int

    def __post_init__(self) -> None:
        try:
            store(self, classes=whole_number("classes", self.classes))
        except ConfigError:
            raise DatasetError(
                f"{self.name}: classes is {shown(self.classes)}; a whole number of at least 1 is required"
            ) from None
        for part in ("train", "test"):
            features, labels = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            for key, array in ((f"x_{part}", features), (f"y_{part}", labels)):
                if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
                    raise DatasetError(
                        f"{self.name}: {key} is a {type(array).__name__}; a NumPy array is required"
                    )
            self._check_features(f"{self.name}: x_{part}", features)
            self._check_labels(f"{self.name}: y_{part}", labels)
            if len(features) != len(labels):
                raise DatasetError(
                    f"{self.name}: x_{part} has {len(features)} samples and y_{part} {len(labels)} labels; "
                    "the two numbers must be equal"
                )
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise DatasetError(
                f"{self.name}: a sample of x_train has shape {self.x_train.shape[1:]} and one of x_test "
                f"{self.x_test.shape[1:]}; they must be the same"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample: (K,) or (H, W, C)."""
        return self.x_train.shape[1:]

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the four arrays (dtypes, shapes and elements), in hexadecimal."""
        return digest_of([self.x_train, self.y_train, self.x_test, self.y_test])

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Return the order in which an epoch visits the training samples.

        Parameters
        ----------
        seed : int
            The seed of the orders, 0 or above and below 2**64.
        epoch : int
            The number of the epoch, counted from 0.

        Returns
        -------
        ndarray, (n,) int64
            A permutation of 0, …, n − 1: a function of `seed`, `epoch` and n alone.

        Raises
        ------
        ConfigError
            If a number is out of its range.
        """
        key = [whole_number("seed", seed, 0, MAX_SEED), whole_number("epoch", epoch, 0)]
        return np.random.default_rng(key).permutation(len(self.x_train))

    def batches(
        self, batch_size: int, seed: int = 0, first: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield batches (x, y) of the training data without end. Each batch overwrites the arrays of the one before.

        Each epoch draws a new order of the samples (see :meth:`order`) and cuts it into batches. Samples that do not
        fill a last batch are left out of that epoch: of 1,438 samples, batches of 64 use 22 · 64 = 1,408.

        Parameters
        ----------
        batch_size : int
            The number of samples B of a batch, from 1 to the number of training samples.
        seed : int, optional
            The seed of the orders, 0 or above and below 2**64. By default 0.
        first : int, optional
            The number of the batch to begin with, counted from 0 over all epochs. By default 0.

        Yields
        ------
        x : ndarray, (B, K) or (B, H, W, C) float32
            The samples of the batch.
        y : ndarray, (B,) int64
            Their labels.

        Raises
        ------
        ConfigError
            If a number is out of its range. It is raised by the call itself, before the first batch is asked for.
        """
        return self._batches(
            whole_number("batch_size", batch_size, 1, len(self.x_train)),
            whole_number("seed", seed, 0, MAX_SEED),
            whole_number("first", first, 0),
        )

    def _batches(self, batch_size: int, seed: int, first: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        x, y = self.x_train, self.y_train
        x_batch, y_batch = np.empty((batch_size, *x.shape[1:]), x.dtype), np.empty(batch_size, y.dtype)
        per_epoch = len(x) // batch_size
        epoch, number = divmod(first, per_epoch)
        while True:
            order = self.order(seed, epoch)
            for start in range(number * batch_size, per_epoch * batch_size, batch_size):
                samples = order[start : start + batch_size]
                # With mode="raise", NumPy would fill a copy of `out` first.
                np.take(x, samples, axis=0, out=x_batch, mode="clip")
                np.take(y, samples, axis=0, out=y_batch, mode="clip")
                yield x_batch, y_batch
            epoch, number = epoch + 1, 0

    @staticmethod
    def _check_features(where: str, features: np.ndarray) -> None:
        if features.ndim not in (2, 4):
            raise DatasetError(f"{where} has shape {features.shape}; (n, K) or (n, H, W, C) is required")
        if features.size == 0:
            raise DatasetError(f"{where} is empty: shape {features.shape}; every size must be at least 1")
        if features.dtype != np.float32 or not features.flags.c_contiguous:
            order = "C-contiguous" if features.flags.c_contiguous else "not C-contiguous"
            raise DatasetError(f"{where} is {features.dtype}, {order}; C-contiguous float32 is required")
        finite = np.isfinite(features)
        if not finite.all():
            index = first_false(finite)
            raise DatasetError(f"{where}[{index}] is {features.item(*index)}; every feature must be finite")

    def _check_labels(self, where: str, labels: np.ndarray) -> None:
        if labels.ndim != 1 or labels.dtype != np.int64:
            raise DatasetError(f"{where} has shape {labels.shape}, {labels.dtype}; (n,) int64 is required")
        check_labels(where, labels, self.classes)


class Index(tuple[int, ...]):
    """An array index that prints as it is written between brackets: ``3, 0`` rather than ``(3, 0)``."""

    __slots__ = ()

    def __str__(self) -> str:
        return ", ".join(map(str, self))


def first_false(condition: np.ndarray) -> Index:
    """Return the index of the first False element of an array that has at least one."""
    return Index(int(i) for i in np.unravel_index(int(np.argmin(condition)), condition.shape))


def check_labels(where: str, labels: np.ndarray, classes: int) -> None:
    """Raise DatasetError, whose message begins with `where`, unless every integer of `labels` is in [0, classes)."""
    allowed = (labels >= 0) & (labels < classes)
    if not allowed.all():
        index = first_false(allowed)
        raise DatasetError(f"{where}[{index}] is {labels.item(*index)}; labels are 0 to {classes - 1}")
