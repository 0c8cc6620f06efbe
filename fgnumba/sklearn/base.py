"""What the classifier and the regressor for scikit-learn share: parameters, passes over the data, and their curve."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import ConfigError, shown
from fgnumba.estimators import Estimator
from fgnumba.kernels.devices.device import Device
from fgnumba.layers import Dense, Layer
from fgnumba.layers.losses import Loss
from fgnumba.model.sequential import Sequential
from fgnumba.optimizers import OPTIMIZERS, Optimizer
from fgnumba.training.callbacks import Callback, EarlyStopping
from fgnumba.training.examples import examples_of
from fgnumba.training.records import Record
from fgnumba.training.targets import real_targets
from fgnumba.training.trainer import Trainer
from fgnumba.validation import as_whole, flag, plain, real_number, whole_number


class _Curve(Callback):
    """Keeps the loss of each pass, and ends a run whose loss has not fallen for some passes, as scikit-learn's do.

    Parameters
    ----------
    tol : float
        A pass is an improvement if its loss is lower than the best by more than this.
    patience : int or None
        Number of passes without an improvement after which the run ends; None: it is not ended.
    verbose : bool
        Whether each pass is printed.
    """

    def __init__(self, tol: float, patience: int | None, verbose: bool) -> None:
        self.tol, self.patience, self.verbose = tol, patience, verbose
        self.losses: list[float] = []
        self.scores: list[float] = []
        self._best, self._waited = math.inf, 0

    def ends(self, record: Record) -> bool:
        """Return whether the run ends with this record."""
        if self.patience is None:
            return False
        self._waited = 0 if record.loss < self._best - self.tol else self._waited + 1
        self._best = min(self._best, record.loss)
        return self._waited >= self.patience

    def on_record(self, record: Record) -> None:
        """Keep the loss and the validation score of a pass."""
        self.losses.append(record.loss)
        score = record.value("validation_r2")
        self.scores.append(record.validation_accuracy if math.isnan(score) else score)
        if self.verbose:
            print(f"Iteration {len(self.losses)}, loss = {record.loss:.8f}")


class ForwardGradientEstimator(BaseEstimator):
    """What the classifier and the regressor share; their parameters are described there."""

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] | int = (100,),
        *,
        activation: str | None = "relu",
        layers: Sequence[Layer] | None = None,
        loss: str | Loss | None = None,
        estimator: str | Estimator = "feedback",
        optimizer: str | Optimizer = "adam",
        learning_rate: float | None = None,
        batch_size: int = 64,
        max_iter: int = 200,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        device: str | Device = "auto",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.layers = layers
        self.loss = loss
        self.estimator = estimator
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _loss(self) -> Loss:
        raise NotImplementedError

    def _check(self) -> None:
        """Raise ConfigError for a parameter that is impossible and that no other object checks."""
        for name in ("batch_size", "max_iter", "n_iter_no_change"):
            whole_number(name, getattr(self, name))
        real_number("tol", self.tol)
        flag("warm_start", self.warm_start)
        if flag("early_stopping", self.early_stopping):
            real_number("validation_fraction", self.validation_fraction, above_zero=True, below=1)

    def _hidden(self) -> tuple[Any, ...]:
        """Return the number of units of each hidden layer, or the layers themselves if they are given."""
        name = "hidden_layer_sizes" if self.layers is None else "layers"
        given = getattr(self, name)
        # Many write (100) for a tuple of one, which scikit-learn takes.
        if name == "hidden_layer_sizes" and as_whole(given) is not None:
            return (as_whole(given),)
        try:
            return tuple(map(plain, given))
        except TypeError:
            raise ConfigError(f"{name} is {shown(given)}; a sequence is required") from None

    def _of_model(self) -> dict[str, Any]:
        """Return the parameters that a model is made from."""
        return {
            "hidden_layer_sizes" if self.layers is None else "layers": self._hidden(),
            "activation": self.activation,
            "device": self.device,
        }

    def _of_trainer(self) -> tuple[Any, ...]:
        """Return the parameters that a trainer is made from."""
        return self.loss, self.estimator, self.optimizer, self.learning_rate

    def _begin(self, outputs: int) -> None:
        """Make the model and its trainer."""
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        hidden = self._hidden()
        if self.layers is None:
            hidden = tuple(Dense(units, activation=self.activation) for units in hidden)
        model = Sequential([*hidden, Dense(outputs)], self.n_features_in_, seed=seed, device=self.device)
        self.trainer_ = self._trainer(model, seed)
        self.model_, self._made = model, self._of_model()
        self.loss_curve_: list[float] = []
        self.validation_scores_: Any = [] if self.early_stopping else None
        self.n_iter_ = 0

    def _go_on(self) -> None:
        """Keep the model, with a new trainer if parameters of the trainer were changed.

        Raises
        ------
        ConfigError
            Parameters of the model were changed.
        """
        wanted = self._of_model()
        for name in {**wanted, **self._made}:
            if wanted.get(name) != self._made.get(name):
                raise ConfigError(
                    f"{name} is {shown(wanted.get(name))}, and {shown(self._made.get(name))} in the model that "
                    "warm_start and partial_fit go on with; fit without warm_start makes another"
                )
        if self._of_trainer() != self._told:
            self.trainer_ = self._trainer(self.model_, self.trainer_.seed)

    def _trainer(self, model: Sequential, seed: int) -> Trainer:
        optimizer: Any = self.optimizer
        if self.learning_rate is not None:
            if not isinstance(optimizer, str) or optimizer not in OPTIMIZERS:
                raise ConfigError(
                    f"learning_rate is {shown(self.learning_rate)} and optimizer {shown(optimizer)}; the rate belongs "
                    f"to an optimizer that is given by its name: {', '.join(OPTIMIZERS)}"
                )
            optimizer = OPTIMIZERS[optimizer](learning_rate=self.learning_rate)
        trainer = Trainer(model, loss=self._loss(), estimator=self.estimator, optimizer=optimizer, seed=seed)
        self._told = self._of_trainer()
        return trainer

    def _train(self, x: Any, y: Any, weights: Any, epochs: int, whole: bool) -> None:
        """Take passes over the data.

        Parameters
        ----------
        x : ndarray, (n, K)
            The examples.
        y : ndarray
            The targets, in the form of the loss.
        weights : ndarray or None
            The weights of the examples.
        epochs : int
            Number of passes.
        whole : bool
            Whether this is a run of ``fit``, which may end early, and not a part of one.
        """
        judged = self.early_stopping and whole
        held = self.validation_fraction if judged else None
        left = max(1, len(x) - int(len(x) * (held or 0)))
        # Batches of about the given size that leave out as few examples of a pass as possible.
        size = max(1, left // max(1, math.ceil(left / self.batch_size)))
        curve = _Curve(self.tol, self.n_iter_no_change if whole and not judged else None, self.verbose)
        callbacks: list[Callback] = [curve]
        if judged:
            callbacks.append(EarlyStopping(self.n_iter_no_change, min_delta=self.tol, restore_best=True))
        loss, outputs = self.trainer_.loss, self.model_.outputs
        # A data set, of which `fit` does not warn that a part of the data has no example of some class.
        data = Dataset(
            "X, y",
            examples_of("X", x, self.model_.input_shape),
            y if loss.takes_labels else real_targets("y", y, outputs, loss),
            classes=outputs if loss.takes_labels else None,
        )
        self.trainer_.fit(
            data,
            sample_weight=weights,
            epochs=epochs,
            batch_size=size,
            validation=held,
            callbacks=callbacks,
        )
        self.loss_curve_ += curve.losses
        if judged:
            self.validation_scores_ = [*(self.validation_scores_ or ()), *curve.scores]
        self.loss_ = self.loss_curve_[-1]
        self.n_iter_ += len(curve.losses)

    def _fresh(self) -> bool:
        return not (self.warm_start and hasattr(self, "model_"))

    def _outputs(self, x: Any) -> npt.NDArray[np.float64]:
        check_is_fitted(self)
        data = validate_data(self, x, reset=False, dtype=(np.float32, np.float64))
        return np.asarray(self.model_(data), np.float64)


def weighed(x: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, npt.NDArray[np.float64] | None]:
    """Return the examples of positive weight, their targets, and their weights, whose mean is 1; None if all are 1.

    A mean of 1 keeps the length of a step.

    Parameters
    ----------
    x : ndarray, (n, K)
        The examples.
    y : ndarray
        Their targets.
    sample_weight : array_like or None
        One weight for each example, 0 or above.

    Raises
    ------
    ValueError
        A weight is impossible, or all are 0.
    """
    if sample_weight is None:
        return x, y, None
    weights = _check_sample_weight(sample_weight, x, ensure_non_negative=True)
    kept = weights > 0
    if not kept.any():
        raise ValueError("sample_weight is 0 for all examples; a positive weight is required")
    weights = weights[kept]
    return x[kept], y[kept], weights * (len(weights) / weights.sum())
