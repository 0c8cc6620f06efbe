"""Evaluation of a classifier on labelled data."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.layers.losses import SoftmaxCrossEntropy
from fgnumba.model.graph import Graph
from fgnumba.model.jvp import checked_targets


class Evaluation(NamedTuple):
    """Share of examples classified right, mean loss, number of examples."""

    accuracy: float
    loss: float
    n: int


def evaluate(model: Graph, x: npt.ArrayLike, y: npt.ArrayLike) -> Evaluation:
    """Return accuracy and softmax cross-entropy of `model` on x (n, *input_shape) with labels y (n,).

    A tie between logits goes to the lowest class.

    Raises
    ------
    ShapeError, DtypeError, DatasetError
    """
    loss = SoftmaxCrossEntropy()
    inputs = model.checked_input(x)
    labels = checked_targets(model, loss, inputs, y)
    loss.check_target_values(labels, model.outputs)
    outputs = model(inputs)
    outputs, labels = np.asarray(outputs), np.asarray(labels)
    accuracy = float(np.mean(outputs.argmax(axis=1) == labels))
    return Evaluation(accuracy, loss.value(outputs, labels), len(inputs))
