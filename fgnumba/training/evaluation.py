"""Evaluation of a model on data with targets: the loss and metrics."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.labels import recoded
from fgnumba.datasets.texts import Alphabet, TextDataset
from fgnumba.errors import ConfigError, DatasetError, shown
from fgnumba.layers.losses import Loss
from fgnumba.model.graph import Graph
from fgnumba.model.jvp import checked_targets
from fgnumba.training.given import check_fits
from fgnumba.training.names import loss_of
from fgnumba.training.scoring import Metric, Metrics, metrics_of, scored
from fgnumba.training.stream_evaluation import stream_values
from fgnumba.training.targets import encoded, names_of


class Evaluation(NamedTuple):
    """The result of an evaluation.

    Parameters
    ----------
    accuracy : float
        Fraction of the labels that were predicted correctly, from 0 to 1. NaN where targets are real numbers.
    loss : float
        Mean loss of an example.
    n : int
        Number of examples.
    metrics : mapping of str to float
        All metrics by name, the accuracy among them.
    """

    accuracy: float
    loss: float
    n: int
    metrics: Mapping[str, float] = {}


def evaluate(
    model: Graph,
    x: npt.ArrayLike | Dataset,
    y: Any = None,
    loss: Loss | Callable[..., Any] | str | None = None,
    metrics: Metrics = None,
    stride: int | None = None,
) -> Evaluation:
    """Return the mean loss of a model and metrics of its predictions.

    A classifier predicts the class of the largest output; among equal ones, the lowest class.

    Parameters
    ----------
    model : Graph
        The model. A classifier has one output for each class.
    x : array_like or Dataset
        Examples, (n, ``*input_shape``); or a data set, whose test part is evaluated. That of a text is one stream: the
        state of a recurrent model is carried from its first symbol to its last. A model of windows, such as a
        transformer, reads windows of it that lie side by side, as long as its input.
    y : array_like
        Targets of the examples, as the loss takes them: for classification (n,) integers from 0, or the labels in
        ``model.classes``; for regression (n, N) real numbers, or (n,) for one output. A data set has its own.
    loss : Loss, callable or str, optional
        The loss, a function of which :meth:`fgnumba.Loss.from_function` makes one, or its name. None (the default):
        :class:`fgnumba.SoftmaxCrossEntropy`.
    metrics : str, callable, sequence of them, or mapping of str to callable, optional
        Metrics beside the one that suits the loss: ``"accuracy"``, ``"r2"``, ``"mae"``, ``"rmse"``, or functions
        ``f(targets, predictions)`` such as scikit-learn's, which get class numbers, or real numbers. Default: none.
    stride : int, optional
        The distance S from window to window of a text, from 1 to the length L of a window. Each prediction counts once
        and has at least L - S symbols before it; L / S passes are needed in place of one. None (the default): S = L.

    Returns
    -------
    Evaluation
        Accuracy, loss, number of examples, and all metrics.

    Raises
    ------
    ShapeError, DtypeError
        `x` or `y` does not fit the model.
    DatasetError
        A label is not a class of the model, or a target is not finite.
    ConfigError
        The loss or a metric is unknown; or a stride is given, and the model reads no windows of a text.
    """
    measure = loss_of(loss)
    chosen = metrics_of(metrics, measure)
    if stride is not None and not isinstance(x, TextDataset):
        raise ConfigError(f"stride is {shown(stride)}; only the windows of a text have a distance")
    if isinstance(x, Dataset):
        return _of_dataset(model, measure, chosen, x, y, stride)
    inputs = model.checked_input(x)
    targets = checked_targets(model, measure, inputs, encoded(measure, model, y))
    measure.check_target_values(targets, model.outputs)
    return evaluated(model, measure, chosen, inputs, targets)


def _of_dataset(
    model: Graph, loss: Loss, metrics: Sequence[Metric], dataset: Dataset, y: Any, stride: int | None
) -> Evaluation:
    if y is not None:
        raise ConfigError(f"y is given beside the data set {dataset.name}, which has its own targets")
    if not dataset.has_test:
        raise DatasetError(f"{dataset.name}: there are no test data")
    check_fits(model, loss, dataset)
    if model.classes is not None:
        dataset = recoded(dataset, names_of(model))
    if isinstance(dataset, TextDataset):
        return evaluated_stream(model, loss, metrics, *dataset.tested, dataset.coding, stride)
    return evaluated(model, loss, metrics, *dataset.tested)


def evaluated_stream(
    model: Graph,
    loss: Loss,
    metrics: Sequence[Metric],
    symbols: npt.NDArray[Any],
    following: npt.NDArray[Any],
    alphabet: Alphabet,
    stride: int | None = None,
) -> Evaluation:
    """Return the mean loss and the metrics of a model on one stream of symbols.

    Parameters
    ----------
    model : Graph
        The model.
    loss : Loss
        The loss.
    metrics : sequence of Metric
        The metrics, beside nats and bits per character and perplexity.
    symbols : ndarray, (N,) of whole numbers
        The stream.
    following : ndarray, (N,) of whole numbers
        The symbol that follows each.
    alphabet : Alphabet
        What the numbers stand for.
    stride : int, optional
        The distance between windows of a model of windows. None (the default): they lie side by side.
    """
    mean, values = stream_values(model, loss, metrics, symbols, following, alphabet, stride)
    return Evaluation(values.get("accuracy", math.nan), mean, len(symbols), values)


def evaluated(model: Graph, loss: Loss, metrics: Sequence[Metric], inputs: Any, targets: Any) -> Evaluation:
    """Return the mean loss and the metrics of a model on data that were checked.

    Parameters
    ----------
    model : Graph
        The model.
    loss : Loss
        The loss.
    metrics : sequence of Metric
        The metrics.
    inputs : array
        Examples, (n, ``*input_shape``).
    targets : array
        Targets in the form of ``loss.target_layout``.
    """
    outputs = np.asarray(model(inputs)).reshape(-1, model.outputs)
    host = np.asarray(targets)
    if len(model.output_shape) == 2:
        host = host.reshape(loss.target_layout(len(outputs), model.outputs)[0])
    # The outputs of a model that has diverged are not finite, of which NumPy must not warn.
    with np.errstate(invalid="ignore", over="ignore"):
        values = scored(metrics, host, loss.predictions(outputs))
    return Evaluation(values.get("accuracy", math.nan), loss.value(outputs, host), len(inputs), values)
