"""A labelled data set in memory, checked once so that nothing downstream has to."""

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

    Parameters
    ----------
    name : what the data set is called in messages and reports.
    x_train, x_test : (n, K) or (n, H, W, C) float32, C-contiguous, finite. Both of one sample shape.
    y_train, y_test : (n,) int64, each in [0, classes).
    classes : the number of classes, at least 1.

    Raises
    ------
    DatasetError
        Where an array does not hold to the above. The message names the array and the first offending index.
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
                f"{self.name}: classes is {shown(self.classes)}; at least 1 is required, a whole number"
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
                    "they must be as many"
                )
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise DatasetError(
                f"{self.name}: a sample of x_train has shape {self.x_train.shape[1:]} and one of x_test "
                f"{self.x_test.shape[1:]}; they must be the same"
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (K,) or (H, W, C)."""
        return self.x_train.shape[1:]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its arrays, in hexadecimal."""
        return digest_of([self.x_train, self.y_train, self.x_test, self.y_test])

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Return the numbers of the training samples in the order of an epoch, (n,) int64."""
        key = [whole_number("seed", seed, 0, MAX_SEED), whole_number("epoch", epoch, 0)]
        return np.random.default_rng(key).permutation(len(self.x_train))

    def batches(
        self, batch_size: int, seed: int = 0, first: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield batches (x, y) of the training data without end; each overwrites the one before.

        An epoch is a fresh order of the data, a function of (seed, epoch), cut into batches; what is left over rests.

        Parameters
        ----------
        batch_size : from 1 to the number of training samples.
        first : number of the batch to begin with.

        Raises
        ------
        ConfigError
            At once, where a number is out of its range.
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
                chosen = order[start : start + batch_size]
                # With mode="raise", NumPy would fill a copy of `out` first.
                np.take(x, chosen, axis=0, out=x_batch, mode="clip")
                np.take(y, chosen, axis=0, out=y_batch, mode="clip")
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
    """An array index, shown as it is written between brackets."""

    __slots__ = ()

    def __str__(self) -> str:
        return ", ".join(map(str, self))


def first_false(condition: np.ndarray) -> Index:
    """Return the index of the first False of an array that has one."""
    return Index(int(i) for i in np.unravel_index(int(np.argmin(condition)), condition.shape))


def check_labels(where: str, labels: np.ndarray, classes: int) -> None:
    """Raise DatasetError unless every one of the integer `labels` is in [0, classes)."""
    allowed = (labels >= 0) & (labels < classes)
    if not allowed.all():
        index = first_false(allowed)
        raise DatasetError(f"{where}[{index}] is {labels.item(*index)}; labels are 0 to {classes - 1}")
