"""How a run is judged: by a validation part while it trains, by the test data once, at its end."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.split import split
from fgnumba.errors import ConfigError, DatasetError, FgError, shown
from fgnumba.layers.losses import SoftmaxCrossEntropy
from fgnumba.model.graph import Graph
from fgnumba.model.jvp import checked_targets
from fgnumba.storage.digests import digest_of
from fgnumba.training.callbacks import Callback, EarlyStopping
from fgnumba.training.evaluation import Evaluation, evaluate
from fgnumba.training.records import Record
from fgnumba.validation import as_float
from fgnumba.validation.arrays import first_not_finite

Validation = float | tuple[npt.ArrayLike, npt.ArrayLike] | None
Parameters = dict[str, npt.NDArray[np.float32]]

STAND_IN = 1024
"""Without a validation part, so many training examples say whether parameters are good to go back to."""

_NONE = Evaluation(math.nan, math.nan, 0)


@dataclass(frozen=True)
class Parts:
    """The parts of a data set in a run.

    Parameters
    ----------
    whole : the data set as it was given.
    training : what the run trains on; its test part is that of the whole.
    validation : examples and labels that judge it meanwhile, None without.
    share : of the training data that is held out for that, None where other data were given.
    """

    whole: Dataset
    training: Dataset
    validation: tuple[npt.NDArray[np.float32], npt.NDArray[Any]] | None = None
    share: float | None = None

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What decides the parts, as a checkpoint states it: a run is resumed with the same."""
        given = None if self.validation is None else self.share or digest_of(self.validation)
        return {"data": self.whole.digest, "validation": given}


def parts_of(model: Graph, dataset: Dataset, validation: Validation, seed: int) -> Parts:
    """Return the parts that ``Trainer.fit`` is asked for.

    Raises
    ------
    ConfigError, ShapeError, DtypeError, DatasetError
        `validation` is none, or does not fit the model.
    """
    if validation is None:
        return Parts(dataset, dataset)
    share = _share(validation)
    if share is not None:
        training, x, y = split(dataset, share, seed)
        return Parts(dataset, training, (x, y), share)
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise ConfigError(
            f"validation is {shown(validation)}; a share of the training data between 0 and 1, "
            "a pair (x, y) or None is required"
        )
    try:
        return Parts(dataset, dataset, _checked(model, *validation))
    except FgError as error:
        raise type(error)(f"validation: {error}") from None


def _share(validation: Any) -> float | None:
    """Return a share of the training data as a float, None for anything else."""
    share = as_float(validation)
    return share if share is not None and 0 < share < 1 else None


def _checked(model: Graph, x: Any, y: Any) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """Return a validation part as arrays of the host, having checked that the model can be judged by it."""
    loss, device = SoftmaxCrossEntropy(), model.processor
    inputs = model.checked_input(x)
    labels = checked_targets(model, loss, inputs, y)
    on_host = [a if isinstance(a, np.ndarray) else device.values(a) for a in (inputs, labels)]
    loss.check_target_values(on_host[1], model.outputs)
    # What float32 cannot hold becomes infinite, and is refused below.
    with np.errstate(over="ignore"):
        examples = np.ascontiguousarray(on_host[0], np.float32)
    wrong = first_not_finite(examples)
    if wrong is not None:
        raise DatasetError(f"x is not finite at {wrong}")
    return examples, np.ascontiguousarray(on_host[1])


def early_stopping_of(callbacks: Sequence[Callback], validation: Validation) -> EarlyStopping | None:
    """Return the early stopping among callbacks; ConfigError where there are several, or no validation part."""
    found = [callback for callback in callbacks if isinstance(callback, EarlyStopping)]
    if len(found) > 1:
        raise ConfigError(f"callbacks: {len(found)} are EarlyStopping; one is possible")
    if found and validation is None:
        raise ConfigError("callbacks: EarlyStopping needs a validation part, such as validation=0.1")
    return found[0] if found else None


@dataclass
class Best:
    """The parameters of the best record so far, and the step of it, of the run."""

    step: int
    parameters: Parameters


class Judge:
    """What a run's records say beside the training loss, and which parameters it leaves.

    Parameters
    ----------
    model, parts : of the run.
    early_stopping : None without.

    Attributes
    ----------
    best : kept where `early_stopping` restores it, None before the first.
    """

    def __init__(self, model: Graph, parts: Parts, early_stopping: EarlyStopping | None) -> None:
        self._model, self._parts, self.early_stopping = model, parts, early_stopping
        self.best: Best | None = None

    def validate(self) -> Evaluation:
        """Return the figures of the validation part; NaN without one."""
        return _NONE if self._parts.validation is None else evaluate(self._model, *self._parts.validation)

    def test(self, step: int) -> Evaluation:
        """Return the figures of the test data, with the parameters that a run which ends after `step` leaves."""
        model = self._model
        if self.best is not None and self.best.step != step:
            # Of its own: an interrupt must not leave the model with other parameters than the trainer's.
            model = copy.copy(model)
            model.put_back(self.best.parameters)
        return evaluate(model, self._parts.training.x_test, self._parts.training.y_test)

    def loss(self, record: Record | None = None) -> float:
        """Return the loss that says whether the parameters that the model has are good to go back to.

        Parameters
        ----------
        record : theirs, None where there is none.
        """
        if self._parts.validation is not None:
            return self.validate().loss if record is None else record.validation_loss
        x, y = self._parts.training.x_train, self._parts.training.y_train
        return evaluate(self._model, x[:STAND_IN], y[:STAND_IN]).loss

    def follow(self, record: Record) -> None:
        """Keep the parameters where early stopping found `record` the best so far."""
        early_stopping = self.early_stopping
        if (
            early_stopping is not None
            and early_stopping.restore_best
            and early_stopping.best_step == record.step
        ):
            self.best = Best(record.step, self._model.parameters())
