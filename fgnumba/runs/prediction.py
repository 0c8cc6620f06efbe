"""What a trained model says about examples: probabilities of classes or labels, or the outputs of a regression."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fgnumba.layers.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from fgnumba.layers.probabilities import sigmoid, softmax
from fgnumba.training.names import loss_of

if TYPE_CHECKING:
    from fgnumba.runs.saved_run import Run


def is_classifier(run: "Run") -> bool:
    """Return whether a run's outputs are logits of classes: its loss is a cross-entropy, as it is by default.

    Parameters
    ----------
    run : Run
        The run.
    """
    return isinstance(_loss(run), SoftmaxCrossEntropy)


def _loss(run: "Run") -> Loss:
    return loss_of(run.config.loss)


def predicted(run: "Run", x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the probabilities of classes, (n, classes), or labels, (n, labels), or a regression's outputs.

    Parameters
    ----------
    run : Run
        The run.
    x : ndarray
        Examples, (n, ``*input_shape``) float32.
    """
    outputs: npt.NDArray[np.float32] = np.asarray(run.model(x))
    if isinstance(_loss(run), BinaryCrossEntropy):
        return sigmoid(outputs)
    return softmax(outputs) if is_classifier(run) else outputs


def columns(run: "Run") -> list[str]:
    """Return the name of each output: the class's label, or its number where the run has no labels.

    Parameters
    ----------
    run : Run
        The run.
    """
    return [str(label) for label in run.labels or range(run.model.outputs)]


def answers(run: "Run", values: npt.NDArray[np.float32]) -> list[str]:
    """Return the answer to each example as text.

    It is the name of the most probable class; or 1 or 0 for each label, with spaces between, as its probability is
    above a half or not; or the outputs of a regression, with spaces between.

    Parameters
    ----------
    run : Run
        The run.
    values : ndarray
        What :func:`predicted` returned.
    """
    if is_classifier(run):
        names = columns(run)
        return [names[number] for number in values.argmax(axis=1).tolist()]
    if isinstance(_loss(run), BinaryCrossEntropy):
        return [" ".join(str(int(value > 0.5)) for value in row) for row in values.tolist()]
    return [" ".join(f"{value:.9g}" for value in row) for row in values.tolist()]
