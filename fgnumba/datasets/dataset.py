"""A labelled data set in memory, checked once, so that no later code has to check it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from fgnumba.errors import ConfigError, DatasetError, shown
from fgnumba.objects.table import as_html
from fgnumba.storage.digests import digest_of
from fgnumba.validation import optional, store, whole_number
from fgnumba.validation.arrays import first_not_finite

MAX_SEED = (1 << 64) - 1
Labels = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test examples with their targets: class labels, or real numbers.

    n is the number of examples, K the number of features, H, W, C are height, width and channels of an image, and N is
    the number of real targets of an example. Of sequences, L is the number of positions: examples are (n, L, C), or
    (n, L) symbols, and targets are those of each position, (n, L) labels or (n, L, N) real numbers.

    Parameters
    ----------
    name : str
        The name of the data set in messages and reports.
    x_train : ndarray, (n, K) or (n, H, W, C) float32, C-contiguous
        The training examples. Every number is finite.
    y_train : ndarray, (n,) int64 or (n, N) float32, C-contiguous
        The targets of the training examples: labels, each in [0, `classes`); or, if `classes` is None, finite real
        numbers, for regression and for losses of several labels for each example.
    x_test : ndarray, (n, K) or (n, H, W, C) float32, C-contiguous, optional
        The test examples, each of the same shape as a training example. None (the default): there are no test data,
        and the attribute is an array of no examples.
    y_test : ndarray, (n,) int64 or (n, N) float32, C-contiguous, optional
        The targets of the test examples.
    classes : int, optional
        The number of classes, at least 1. None (the default): the targets are real numbers.
    labels : tuple of str, int or float, optional
        What each class is called in the data that the data set was made from. None (the default): 0, 1, ….

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

    streamed: ClassVar[bool] = False
    """Whether the examples follow one another, so that a recurrent model goes on from each to the next."""

    name: str
    x_train: np.ndarray = field(repr=False)
    y_train: np.ndarray = field(repr=False)
    x_test: np.ndarray = field(default=None, repr=False)  # type: ignore[arg-type]
    y_test: np.ndarray = field(default=None, repr=False)  # type: ignore[arg-type]
    classes: int | None = None
    labels: Labels | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            store(self, classes=optional(whole_number, "classes", self.classes))
        except ConfigError:
            raise DatasetError(
                f"{self.name}: classes is {shown(self.classes)}; a whole number of at least 1 is required"
            ) from None
        self._check_names()
        self._store_test_part()
        for part in ("train", "test"):
            features, labels = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            for key, array in ((f"x_{part}", features), (f"y_{part}", labels)):
                if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
                    raise DatasetError(
                        f"{self.name}: {key} is a {type(array).__name__}; a NumPy array is required"
                    )
            self._check_features(f"{self.name}: x_{part}", features, 1 if part == "train" else 0)
            self._check_targets(f"{self.name}: y_{part}", labels)
            if labels.ndim == (2 if self.classes else 3) and labels.shape[1] != features.shape[1]:
                raise DatasetError(
                    f"{self.name}: y_{part} has shape {labels.shape} and x_{part} {features.shape}; a target for "
                    "each of the L positions of a sequence, or for each example, is required"
                )
            if len(features) != len(labels):
                raise DatasetError(
                    f"{self.name}: x_{part} has {len(features)} examples and y_{part} {len(labels)} "
                    f"{'targets' if self.classes is None else 'labels'}; the two numbers must be equal"
                )
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise DatasetError(
                f"{self.name}: an example of x_train has shape {self.x_train.shape[1:]} and one of x_test "
                f"{self.x_test.shape[1:]}; they must be the same"
            )
        if self.y_train.shape[1:] != self.y_test.shape[1:]:
            both = [math.prod(array.shape[1:]) for array in (self.y_train, self.y_test)]
            raise DatasetError(
                f"{self.name}: an example has {both[0]} targets in y_train and {both[1]} "
                "in y_test; the two numbers must be equal"
            )

    @property
    def outputs(self) -> int:
        """The number of outputs that a model for these data has: one for each class, or for each real target."""
        return int(self.y_train.shape[-1]) if self.classes is None else self.classes

    @property
    def has_test(self) -> bool:
        """Whether there are test data."""
        return len(self.x_test) > 0

    @property
    def tested(self) -> tuple[np.ndarray, np.ndarray]:
        """The test examples and their targets; those of a text are one stream."""
        return self.x_test, self.y_test

    def first(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the first training examples and their targets, at most `count`; those of a text are one stream."""
        count = whole_number("count", count)
        return self.x_train[:count], self.y_train[:count]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example: (K,) or (H, W, C)."""
        return self.x_train.shape[1:]

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the four arrays (dtypes, shapes and elements), in hexadecimal."""
        return digest_of([self.x_train, self.y_train, self.x_test, self.y_test])

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Return the order in which an epoch visits the training examples.

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

        Each epoch draws a new order of the examples (see :meth:`order`) and cuts it into batches. Examples that do not
        fill a last batch are left out of that epoch: of 1,438 examples, batches of 64 use 22 · 64 = 1,408.

        Parameters
        ----------
        batch_size : int
            The number of examples B of a batch, from 1 to the number of training examples.
        seed : int, optional
            The seed of the orders, 0 or above and below 2**64. By default 0.
        first : int, optional
            The number of the batch to begin with, counted from 0 over all epochs. By default 0.

        Yields
        ------
        x : ndarray, (B, K) or (B, H, W, C) float32
            The examples of the batch.
        y : ndarray, (B,) int64 or (B, N) float32
            Their targets.

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
        x_batch, y_batch = (np.empty((batch_size, *a.shape[1:]), a.dtype) for a in (x, y))
        per_epoch = len(x) // batch_size
        epoch, number = divmod(first, per_epoch)
        while True:
            order = self.order(seed, epoch)
            for start in range(number * batch_size, per_epoch * batch_size, batch_size):
                examples = order[start : start + batch_size]
                # With mode="raise", NumPy would fill a copy of `out` first.
                np.take(x, examples, axis=0, out=x_batch, mode="clip")
                np.take(y, examples, axis=0, out=y_batch, mode="clip")
                yield x_batch, y_batch
            epoch, number = epoch + 1, 0

    def _store_test_part(self) -> None:
        test: tuple[Any, Any] = self.x_test, self.y_test
        if (test[0] is None) != (test[1] is None):
            raise DatasetError(f"{self.name}: x_test and y_test are required, or neither of them")
        if test[0] is None and all(isinstance(array, np.ndarray) for array in (self.x_train, self.y_train)):
            store(self, x_test=self.x_train[:0], y_test=self.y_train[:0])

    def _check_names(self) -> None:
        if self.labels is None:
            return
        names = tuple(self.labels)
        if len(names) != self.classes or len(set(names)) != len(names):
            raise DatasetError(
                f"{self.name}: labels are {shown(names)}; {self.classes} different ones are required"
                if self.classes is not None
                else f"{self.name}: labels are given without classes; both or neither are required"
            )
        store(self, labels=names)

    def _repr_html_(self) -> str:
        rows = []
        for name in ("x_train", "y_train", "x_test", "y_test"):
            array = getattr(self, name)
            extent = f"{array.min():.5g} to {array.max():.5g}" if array.size else ""
            rows.append((name, "x".join(map(str, array.shape)), str(array.dtype), extent))
        classes = f", {self.classes} classes" if self.classes else ""
        return as_html(f"{self.name}{classes}", ("array", "shape", "dtype", "values"), rows, 0)

    @staticmethod
    def _check_features(where: str, features: np.ndarray, least: int) -> None:
        if features.ndim not in (2, 3, 4):
            raise DatasetError(
                f"{where} has shape {features.shape}; (n, K), (n, L, C) or (n, H, W, C) is required"
            )
        if len(features) < least or 0 in features.shape[1:]:
            raise DatasetError(f"{where} is empty: shape {features.shape}; every size must be at least 1")
        if features.dtype != np.float32 or not features.flags.c_contiguous:
            order = "C-contiguous" if features.flags.c_contiguous else "not C-contiguous"
            raise DatasetError(f"{where} is {features.dtype}, {order}; C-contiguous float32 is required")
        _check_finite(where, features, "feature")

    def _check_targets(self, where: str, labels: np.ndarray) -> None:
        if self.classes is None:
            if (
                labels.ndim not in (2, 3)
                or labels.dtype != np.float32
                or not labels.flags.c_contiguous
                or 0 in labels.shape[1:]
            ):
                raise DatasetError(
                    f"{where} has shape {labels.shape}, {labels.dtype}; (n, N) float32, C-contiguous, is required "
                    "where there are no classes"
                )
            _check_finite(where, labels, "target")
            return
        if labels.ndim not in (1, 2) or 0 in labels.shape[1:] or labels.dtype != np.int64:
            raise DatasetError(
                f"{where} has shape {labels.shape}, {labels.dtype}; (n,) int64, or (n, L) of sequences, is required"
            )
        check_labels(where, labels, self.classes)


def _check_finite(where: str, array: np.ndarray, noun: str) -> None:
    index = first_not_finite(array)
    if index is not None:
        raise DatasetError(f"{where}[{Index(index)}] is {array.item(*index)}; every {noun} must be finite")


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
