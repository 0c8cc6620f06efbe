"""The regressor for scikit-learn."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from fgnumba.errors import ConfigError, shown
from fgnumba.layers.losses import Loss, MeanSquaredError
from fgnumba.sklearn.base import ForwardGradientEstimator, weighed
from fgnumba.training.names import loss_of


class ForwardGradientRegressor(RegressorMixin, ForwardGradientEstimator):
    """A multilayer perceptron for regression of one or several targets, trained with forward gradients.

    Targets are standardised by the mean and the deviation of the first data, and predictions are turned back.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, or int
        Number of units in each hidden layer, or in the only one. Default: (100,).
    activation : str or None
        Activation of the hidden layers, as :class:`fgnumba.Dense` takes it. Default: ``"relu"``.
    layers : sequence of Layer, optional
        The layers before the last one, in place of `hidden_layer_sizes`. None (the default): dense ones.
    loss : str or Loss, optional
        A loss of real targets. None (the default): the mean squared error.
    estimator : str or Estimator
        The gradient estimator, or its name. Default: ``"feedback"``.
    optimizer : str or Optimizer
        The optimiser, or its name. Default: ``"adam"``.
    learning_rate : float, optional
        The learning rate of an optimiser that is given by its name. None (the default): the one that a search found
        for the estimator.
    batch_size : int
        About the number of examples in a step. Default: 64.
    max_iter : int
        Largest number of passes over the data. Default: 200.
    tol : float
        A pass is an improvement if the loss (with early stopping, the validation loss) is lower by more than this.
        Default: 1e-4.
    n_iter_no_change : int
        Number of passes in a row without an improvement after which training ends. Default: 10.
    early_stopping : bool
        Whether a part of the training data is held out, whose loss decides when training ends and whose best parameters
        are kept. Default: False.
    validation_fraction : float
        The fraction that `early_stopping` holds out. Default: 0.1.
    warm_start : bool
        Whether ``fit`` goes on from the model of the call before. Parameters of the trainer, such as the learning
        rate, may have changed, and those of the model may not. Default: False.
    device : str or Device
        ``"cpu"``, ``"cuda"``, ``"auto"``, which takes a GPU if there is one, or a device with a precision of its own,
        such as ``fgnumba.device.cpu("bf16x2")``. Default: ``"auto"``.
    random_state : int, RandomState or None
        What decides initial parameters, the order of the data and the noise. Default: None.
    verbose : bool
        Whether the loss of each pass is printed. Default: False.

    Attributes
    ----------
    model_ : Sequential
        The model, whose outputs are standardised targets.
    trainer_ : Trainer
        Its trainer.
    target_mean_, target_scale_ : ndarray, (N,)
        Mean and deviation of each target.
    loss_curve_ : list of float
        Mean training loss of each pass, of standardised targets.
    loss_ : float
        The last of them.
    validation_scores_ : list of float or None
        R² on the held-out data after each pass, with `early_stopping`.
    n_iter_ : int
        Number of passes.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray
        Their names, if X is a data frame with names.

    Raises
    ------
    ConfigError
        A parameter is impossible; raised by ``fit``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from fgnumba.sklearn import ForwardGradientRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), ForwardGradientRegressor((16,), random_state=0, max_iter=20))
    >>> model.fit(X, y).score(X, y) > 0.4
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _loss(self) -> Loss:
        loss = MeanSquaredError() if self.loss is None else loss_of(self.loss)
        if loss.takes_labels:
            raise ConfigError(f"loss is {shown(self.loss)}; a regressor needs a loss of real targets")
        return loss

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ForwardGradientRegressor":
        """Train on data; without `warm_start`, from the beginning.

        Parameters
        ----------
        X : array_like, (n, K)
            The examples.
        y : array_like, (n,) or (n, N)
            Their targets.
        sample_weight : array_like, (n,), optional
            Their weights, 0 or above. None (the default): all 1.

        Returns
        -------
        ForwardGradientRegressor
            This object.
        """
        return self._fitted(X, y, sample_weight, self.max_iter, self._fresh(), whole=True)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ForwardGradientRegressor":
        """Take one pass over some data, and keep what was learned before.

        The first call's data decide mean and deviation of the targets.

        Parameters
        ----------
        X : array_like, (n, K)
            The examples.
        y : array_like, (n,) or (n, N)
            Their targets.
        sample_weight : array_like, (n,), optional
            Their weights. None (the default): all 1.

        Returns
        -------
        ForwardGradientRegressor
            This object.
        """
        return self._fitted(X, y, sample_weight, 1, not hasattr(self, "model_"), whole=False)

    def _fitted(
        self, X: Any, y: Any, sample_weight: Any, epochs: int, fresh: bool, whole: bool
    ) -> "ForwardGradientRegressor":
        self._check()
        x, y = validate_data(
            self, X, y, dtype=(np.float32, np.float64), multi_output=True, y_numeric=True, reset=fresh
        )
        x, y, weights = weighed(x, y, sample_weight)
        targets = np.asarray(y, np.float64)
        if fresh:
            self._flat = targets.ndim == 1
            of_each = targets.reshape(len(targets), -1)
            self.target_mean_ = np.average(of_each, axis=0, weights=weights)
            deviation = np.sqrt(np.average((of_each - self.target_mean_) ** 2, axis=0, weights=weights))
            # A target that is always the same has no scale.
            self.target_scale_ = np.where(deviation > 0, deviation, 1.0)
        columns = targets.reshape(len(targets), -1)
        if columns.shape[1] != len(self.target_mean_):
            raise ValueError(f"y has {columns.shape[1]} targets; {len(self.target_mean_)} are required")
        if fresh:
            self._begin(columns.shape[1])
        else:
            self._go_on()
        standard = (columns - self.target_mean_) / self.target_scale_
        self._train(x, standard, weights, epochs, whole)
        return self

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the prediction for each example, in the shape of the targets.

        Parameters
        ----------
        X : array_like, (n, K)
            The examples.
        """
        outputs = self._outputs(X) * self.target_scale_ + self.target_mean_
        return outputs[:, 0] if self._flat else outputs
