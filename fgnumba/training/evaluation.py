"""Evaluation of a classifier on labelled data."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.layers.losses import SoftmaxCrossEntropy
from fgnumba.model.graph import Graph
from fgnumba.model.jvp import checked_targets


class Evaluation(NamedTuple):
    """The result of an evaluation.

    Parameters
    ----------
    accuracy : float
        Fraction of the examples that were classified correctly, from 0 to 1.
    loss : float
        Mean loss of an example.
    n : int
        Number of examples.
    """

    accuracy: float
    loss: float
    n: int


def evaluate(model: Graph, x: npt.ArrayLike, y: npt.ArrayLike) -> Evaluation:
    """Return the accuracy and the mean softmax cross-entropy of a classifier.

    The predicted class is that of the largest logit; among equal ones, the lowest class.

    Parameters
    ----------
    model : Graph
        The classifier, with one output for each class.
    x : array_like
        Examples, (n, ``*input_shape``).
    y : array_like
        Labels, (n,) integers from 0.

    Returns
    -------
    Evaluation
        Accuracy, loss and number of examples.

    Raises
    ------
    ShapeError, DtypeError
        `x` or `y` does not fit the model.
    DatasetError
        A label is not a class of the model.
    """
    loss = SoftmaxCrossEntropy()
    inputs = model.checked_input(x)
    labels = checked_targets(model, loss, inputs, y)
    loss.check_target_values(labels, model.outputs)
    outputs = model(inputs)
    outputs, labels = np.asarray(outputs), np.asarray(labels)
    accuracy = float(np.mean(outputs.argmax(axis=1) == labels))
    return Evaluation(accuracy, loss.value(outputs, labels), len(inputs))
