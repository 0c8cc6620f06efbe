"""Batches of an iterable, such as a DataLoader: passes over it, one after the other."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import ConfigError, DatasetError, FgError, shown
from fgnumba.layers.losses import Loss
from fgnumba.model.graph import Graph
from fgnumba.model.jvp import checked_targets
from fgnumba.training.examples import examples_of
from fgnumba.training.targets import encoded, names_of
from fgnumba.validation import as_whole

Batch = tuple[Any, Any]


class Batches:
    """The batches of an iterable, without end if it can be passed over again.

    Parameters
    ----------
    iterable : iterable of (x, y)
        The batches: a list, a generator, a DataLoader.
    model : Graph
        The model, which each batch must fit.
    loss : Loss
        The loss, which the targets must fit.

    Attributes
    ----------
    first : tuple
        The first batch (x, y), as arrays.
    dataset : Dataset
        The first batch as a data set. It stands for the data where a run needs some before it begins.
    per_epoch : int or None
        Number of batches in a pass, or None if the iterable does not tell its length.

    Raises
    ------
    DatasetError
        There is no batch.
    ConfigError
        An item is no pair (x, y).
    """

    def __init__(self, iterable: Iterable[Any], model: Graph, loss: Loss) -> None:
        self._iterable, self._model, self._loss = iterable, model, loss
        self._once = iter(iterable) is iterable
        try:
            length = as_whole(len(iterable))  # type: ignore[arg-type]
        except TypeError:
            length = None
        self.per_epoch = length or None
        self._begun = iter(iterable)
        try:
            head = next(self._begun)
        except StopIteration:
            raise DatasetError("dataset: the iterable yields no batch; pairs (x, y) are required") from None
        self.first = self._pair(0, head)
        x, y = map(self.on_host, self.first)
        targets: npt.NDArray[Any] = np.ascontiguousarray(y, loss.target_layout(len(x), model.outputs)[1])
        labelled = loss.takes_labels
        classes, names = (model.outputs, names_of(model)) if labelled else (None, None)
        if names is not None and len(names) != classes:
            classes = len(names)
        self.dataset = Dataset("batches", x, targets, classes=classes, labels=names)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches, pass after pass. An iterator, which cannot be passed over again, ends."""
        rest, number = self._begun, 1
        yield self.first
        while True:
            for item in rest:
                yield self._pair(number, item)
                number += 1
            if self._once:
                return
            again = iter(self._iterable)
            try:
                rest = chain((next(again),), again)
            except StopIteration:
                return

    def on_host(self, array: Any) -> npt.NDArray[Any]:
        """Return an array of a batch that may be in the memory of a GPU as one of NumPy's.

        Parameters
        ----------
        array : array
            Examples or targets of a batch.
        """
        return array if isinstance(array, np.ndarray) else self._model.processor.values(array)

    def _pair(self, number: int, item: Any) -> Batch:
        """Return an item as a pair of arrays that fit the model and the loss."""
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ConfigError(
                f"dataset: batch {number} is {shown(type(item))}, not a pair (x, y); an iterable of pairs is required"
            )
        x, y = item
        try:
            there = not isinstance(x, np.ndarray) and self._model.processor.adopt(x) is not None
            inputs = (
                self._model.checked_input(x)
                if there
                else examples_of("x", x, self._model.input_shape, number)
            )
            targets = checked_targets(self._model, self._loss, inputs, encoded(self._loss, self._model, y))
            if len(self._model.output_shape) == 2:
                # A step takes the targets of sequences as sequences.
                targets = targets.reshape(len(inputs), self._model.positions, *targets.shape[1:])
            return inputs, targets
        except FgError as error:
            raise type(error)(f"dataset: batch {number}: {error}") from None
