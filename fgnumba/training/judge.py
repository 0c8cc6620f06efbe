"""Evaluation of a run: on validation data while it trains, and on the test data once, at its end."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.split import cut, judges
from fgnumba.datasets.texts import TextDataset
from fgnumba.errors import ConfigError, FgError, shown
from fgnumba.layers.losses import Loss
from fgnumba.model.described import checked_classes
from fgnumba.model.graph import Graph
from fgnumba.storage.digests import digest_of
from fgnumba.training.callbacks import Callback, EarlyStopping
from fgnumba.training.evaluation import Evaluation, evaluated, evaluated_stream
from fgnumba.training.given import pair_of
from fgnumba.training.records import Record
from fgnumba.training.scoring import Metric
from fgnumba.validation import as_float

Validation = float | tuple[Any, Any] | None
Parameters = dict[str, npt.NDArray[np.float32]]

STAND_IN = 1024
"""Without validation data, the loss on this many training examples decides whether parameters are good ones, to which a
run can return after it has diverged."""

_NONE = Evaluation(math.nan, math.nan, 0)


@dataclass(frozen=True)
class Parts:
    """The training and validation data of a run.

    Parameters
    ----------
    whole : Dataset
        The data set as the user gave it.
    training : Dataset
        The data set without the training data that are held out. Its test data are those of `whole`.
    validation : tuple of ndarray, optional
        Examples and labels on which the run is judged while it trains. None (the default): there are none.
    share : float, optional
        The fraction of the training data that is held out as validation data. None (the default): the user gave other
        data, or none.
    held : ndarray, (n,) bool, optional
        Which examples of the whole training data these are. None (the default): none is held out.
    """

    whole: Dataset
    training: Dataset
    validation: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None
    share: float | None = None
    held: npt.NDArray[np.bool_] | None = None

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What identifies the data, as a checkpoint holds it: a run must be resumed with the same data."""
        given = None if self.validation is None else self.share or digest_of(self.validation)
        facts = {"data": self.whole.digest, "validation": given}
        # The digest of the data is that of class numbers.
        names = self.whole.labels
        return facts if names is None else {**facts, "classes": list(checked_classes(names))}


def parts_of(model: Graph, loss: Loss, dataset: Dataset, validation: Validation, seed: int) -> Parts:
    """Return the training and validation data of a run.

    Parameters
    ----------
    model : Graph
        The model, which the validation data must fit.
    loss : Loss
        The loss, which the validation data's targets must fit.
    dataset : Dataset
        The data set.
    validation : float, tuple of array_like or None
        The fraction of the training data to hold out, a pair (x, y), or None, as ``Trainer.fit`` takes it.
    seed : int
        Seed of the choice of the held-out examples.

    Raises
    ------
    ConfigError, ShapeError, DtypeError, DatasetError
        `validation` is nothing of this kind, or does not fit the model.
    """
    if validation is None:
        return Parts(dataset, dataset)
    share = _share(validation)
    if share is not None:
        held = judges(dataset, share, seed)
        training, x, y = cut(dataset, held)
        return Parts(dataset, training, (x, y), share, held)
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise ConfigError(
            f"validation is {shown(validation)}; a share of the training data between 0 and 1, "
            "a pair (x, y) or None is required"
        )
    try:
        if isinstance(dataset, TextDataset):
            return Parts(dataset, dataset, dataset.stream_of(*validation))
        return Parts(dataset, dataset, pair_of(model, loss, dataset, *validation))
    except FgError as error:
        raise type(error)(f"validation: {error}") from None


def _share(validation: Any) -> float | None:
    """Return a fraction of the training data as a float, or None for anything else."""
    share = as_float(validation)
    return share if share is not None and 0 < share < 1 else None


def early_stopping_of(callbacks: Sequence[Callback], validation: Validation) -> EarlyStopping | None:
    """Return the early stopping among a run's callbacks, or None.

    Parameters
    ----------
    callbacks : sequence of Callback
        The callbacks.
    validation : float, tuple of array_like or None
        The validation data, as ``Trainer.fit`` takes them.

    Raises
    ------
    ConfigError
        There are several, or there are no validation data for it.
    """
    stoppings = [callback for callback in callbacks if isinstance(callback, EarlyStopping)]
    if len(stoppings) > 1:
        raise ConfigError(f"callbacks: {len(stoppings)} are EarlyStopping; one is possible")
    if stoppings and validation is None:
        raise ConfigError("callbacks: EarlyStopping needs validation data, such as validation=0.1")
    return stoppings[0] if stoppings else None


@dataclass
class Best:
    """The parameters of the best record so far.

    Parameters
    ----------
    step : int
        The record's step, counted from the beginning of the run.
    parameters : dict of str to ndarray
        The parameters by their names.
    """

    step: int
    parameters: Parameters


class Judge:
    """Evaluates the model of a run, and keeps its best parameters.

    Parameters
    ----------
    model : Graph
        The model.
    loss : Loss
        The loss that is trained.
    metrics : sequence of Metric
        What is measured beside the loss.
    parts : Parts
        The run's training, validation and test data.
    early_stopping : EarlyStopping or None
        The run's early stopping, which decides which record is the best.

    Attributes
    ----------
    best : Best or None
        The best parameters so far, if `early_stopping` restores them at the end. None: it does not, or there are none
        yet.
    """

    def __init__(
        self,
        model: Graph,
        loss: Loss,
        metrics: Sequence[Metric],
        parts: Parts,
        early_stopping: EarlyStopping | None,
    ) -> None:
        self._model, self._loss, self._parts, self.early_stopping = model, loss, parts, early_stopping
        self._metrics = metrics
        self.best: Best | None = None

    def _evaluate(self, model: Graph, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Evaluation:
        return self._evaluated(model, self._metrics, x, y)

    def _evaluated(
        self, model: Graph, metrics: Sequence[Metric], x: npt.NDArray[Any], y: npt.NDArray[Any]
    ) -> Evaluation:
        whole = self._parts.whole
        if isinstance(whole, TextDataset):
            return evaluated_stream(model, self._loss, metrics, x, y, whole.coding)
        return evaluated(model, self._loss, metrics, x, y)

    def validate(self) -> Evaluation:
        """Return the loss and the metrics on the validation data; NaN and none if there are no such data."""
        return (
            _NONE if self._parts.validation is None else self._evaluate(self._model, *self._parts.validation)
        )

    @property
    def tests(self) -> bool:
        """Whether there are test data."""
        return self._parts.training.has_test

    def test(self, step: int) -> Evaluation:
        """Return the loss and the metrics on the test data, if there are any, with the parameters that the run keeps.

        Parameters
        ----------
        step : int
            The step after which the run ends. If this is not the best step, the best parameters are evaluated.
        """
        if not self.tests:
            return _NONE
        model = self._model
        if self.best is not None and self.best.step != step:
            # A copy gets the best parameters: an interrupt must not leave them in the trainer's model.
            model = copy.copy(model)
            model.put_back(self.best.parameters)
        return self._evaluate(model, *self._parts.training.tested)

    def loss(self, record: Record | None = None) -> float:
        """Return the loss that decides whether a run can return to the model's parameters after it has diverged.

        It is the loss on the validation data, or on the first `STAND_IN` training examples if there are none.

        Parameters
        ----------
        record : Record, optional
            The record of these parameters, which saves an evaluation. None (the default): there is none.
        """
        if self._parts.validation is not None and record is not None:
            return record.validation_loss
        pair = self._parts.validation or self._parts.training.first(STAND_IN)
        return self._evaluated(self._model, (), *pair).loss

    def follow(self, record: Record) -> None:
        """Keep the model's parameters if early stopping restores the best record, and this is the best so far.

        Parameters
        ----------
        record : Record
            The record that was just made.
        """
        early_stopping = self.early_stopping
        if (
            early_stopping is not None
            and early_stopping.restore_best
            and early_stopping.best_step == record.step
        ):
            self.best = Best(record.step, self._model.parameters())
