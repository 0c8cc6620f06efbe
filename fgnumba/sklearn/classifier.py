"""The classifier for scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from fgnumba.errors import ConfigError, shown
from fgnumba.estimators import Estimator
from fgnumba.kernels.devices.device import Device
from fgnumba.layers import Layer
from fgnumba.layers.losses import Loss, SoftmaxCrossEntropy
from fgnumba.layers.probabilities import softmax
from fgnumba.optimizers import Optimizer
from fgnumba.sklearn.base import ForwardGradientEstimator, weighed
from fgnumba.training.names import loss_of


class ForwardGradientClassifier(ClassifierMixin, ForwardGradientEstimator):
    """A multilayer perceptron for classification, trained with forward gradients.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, or int
        Number of units in each hidden layer, or in the only one. Default: (100,).
    activation : str or None
        Activation of the hidden layers, as :class:`fgnumba.Dense` takes it. Default: ``"relu"``.
    layers : sequence of Layer, optional
        The layers before the last one, in place of `hidden_layer_sizes`. None (the default): dense ones.
    loss : str or Loss, optional
        A loss of class labels. None (the default): softmax cross-entropy.
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
        A pass is an improvement if the loss (with early stopping, the validation accuracy) is better by more than
        this. Default: 1e-4.
    n_iter_no_change : int
        Number of passes in a row without an improvement after which training ends. Default: 10.
    early_stopping : bool
        Whether a part of the training data is held out, whose accuracy decides when training ends and whose best
        parameters are kept. Default: False.
    validation_fraction : float
        The fraction that `early_stopping` holds out. Default: 0.1.
    class_weight : dict, "balanced" or None
        Weights of the classes, as in scikit-learn. Default: None, all 1.
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
    classes_ : ndarray, (C,)
        The class labels.
    model_ : Sequential
        The model.
    trainer_ : Trainer
        Its trainer.
    loss_curve_ : list of float
        Mean training loss of each pass.
    loss_ : float
        The last of them.
    validation_scores_ : list of float or None
        Accuracy on the held-out data after each pass, with `early_stopping`.
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
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from fgnumba.sklearn import ForwardGradientClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), ForwardGradientClassifier(random_state=0)).fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    """

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
        class_weight: Any = None,
        warm_start: bool = False,
        device: str | Device = "auto",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation=activation,
            layers=layers,
            loss=loss,
            estimator=estimator,
            optimizer=optimizer,
            learning_rate=learning_rate,
            batch_size=batch_size,
            max_iter=max_iter,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def _loss(self) -> Loss:
        loss = SoftmaxCrossEntropy() if self.loss is None else loss_of(self.loss)
        if not loss.takes_labels:
            raise ConfigError(f"loss is {shown(self.loss)}; a classifier needs a loss of class labels")
        return loss

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ForwardGradientClassifier":
        """Train on data; without `warm_start`, from the beginning.

        Parameters
        ----------
        X : array_like, (n, K)
            The examples.
        y : array_like, (n,)
            Their labels.
        sample_weight : array_like, (n,), optional
            Their weights, 0 or above. None (the default): all 1.

        Returns
        -------
        ForwardGradientClassifier
            This object.
        """
        self._check()
        fresh = self._fresh()
        x, y = validate_data(self, X, y, dtype=(np.float32, np.float64), reset=fresh)
        check_classification_targets(y)
        x, y, weights = weighed(x, y, sample_weight)
        if fresh:
            self.classes_ = np.unique(y)
        numbers, weights = self._numbers(y), self._weighed(y, weights)
        if fresh:
            self._begin(max(len(self.classes_), 1))
        else:
            self._go_on()
        self._train(x, numbers, weights, self.max_iter, whole=True)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> "ForwardGradientClassifier":
        """Take one pass over some data, and keep what was learned before.

        Parameters
        ----------
        X : array_like, (n, K)
            The examples.
        y : array_like, (n,)
            Their labels.
        classes : array_like, optional
            All labels that there are; required in the first call.
        sample_weight : array_like, (n,), optional
            The weights of the examples. None (the default): all 1.

        Returns
        -------
        ForwardGradientClassifier
            This object.
        """
        self._check()
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight is {shown(self.class_weight)}, which needs all data; partial_fit takes a dict"
            )
        first = not hasattr(self, "model_")
        x, y = validate_data(self, X, y, dtype=(np.float32, np.float64), reset=first)
        check_classification_targets(y)
        x, y, weights = weighed(x, y, sample_weight)
        if first:
            if classes is None:
                raise ValueError(
                    "classes is None; the first call of partial_fit needs all labels that there are"
                )
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes are {shown(list(classes))}; those of the first call are required")
        numbers, weights = self._numbers(y), self._weighed(y, weights)
        if first:
            self._begin(len(self.classes_))
        else:
            self._go_on()
        self._train(x, numbers, weights, 1, whole=False)
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the most probable label of each example.

        Parameters
        ----------
        X : array_like, (n, K)
            The examples.
        """
        largest = self._outputs(X).argmax(axis=1)
        return np.asarray(self.classes_[largest])

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the probabilities of the classes, (n, C), in the order of ``classes_``.

        Parameters
        ----------
        X : array_like, (n, K)
            The examples.
        """
        return softmax(self._outputs(X))

    def predict_log_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the logarithms of the probabilities of the classes, (n, C).

        Parameters
        ----------
        X : array_like, (n, K)
            The examples.
        """
        z = self._outputs(X)
        z = z - z.max(axis=1, keepdims=True)
        return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))

    def _numbers(self, y: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the number of each label in ``classes_``."""
        numbers = np.searchsorted(self.classes_, y)
        known = self.classes_[np.minimum(numbers, len(self.classes_) - 1)] == y
        if not known.all():
            raise ValueError(
                f"y has the label {shown(y[~known].tolist()[0])}; the labels are {shown(self.classes_.tolist())}"
            )
        return numbers.astype(np.int64)

    def _weighed(self, y: npt.NDArray[Any], weights: Any) -> Any:
        """Return the weights of the examples, those of their classes included."""
        if self.class_weight is None:
            return weights
        # A part of the data may lack classes that have a weight.
        present = self.classes_ if isinstance(self.class_weight, dict) else np.unique(y)
        of_class = compute_class_weight(self.class_weight, classes=present, y=y)
        factors = of_class[np.searchsorted(present, y)]
        return factors if weights is None else factors * weights
