"""What a trained model says about examples: probabilities of classes, or the outputs of a regression."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fgnumba.runs.saved_run import Run

LABELS = "labels"
"""Key in the ``[run]`` table: the names of the classes."""


def is_classifier(run: "Run") -> bool:
    """Return whether a run's outputs are logits of classes: its loss is a cross-entropy, as it is by default.

    Parameters
    ----------
    run : Run
        The run.
    """
    loss = getattr(run.config, "loss", None)
    return loss is None or "entropy" in loss


def predicted(run: "Run", x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the class probabilities of examples, (n, classes), or the outputs of a regression, (n, outputs).

    Parameters
    ----------
    run : Run
        The run.
    x : ndarray
        Examples, (n, ``*input_shape``) float32.
    """
    outputs: npt.NDArray[np.float32] = np.asarray(run.model(x))
    return softmax(outputs) if is_classifier(run) else outputs


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the class probabilities of logits.

    Parameters
    ----------
    logits : ndarray
        (n, classes) float32.

    Returns
    -------
    ndarray
        (n, classes) float32, computed in float64.
    """
    z = logits.astype(np.float64)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return (z / z.sum(axis=1, keepdims=True)).astype(np.float32)


def columns(run: "Run") -> list[str]:
    """Return the name of each output: the class's label, or its number where the run has no labels.

    Parameters
    ----------
    run : Run
        The run.
    """
    labels, count = run.facts.get(LABELS), run.model.outputs
    if isinstance(labels, list) and len(labels) == count:
        return [str(label) for label in labels]
    return [str(number) for number in range(count)]


def answers(run: "Run", values: npt.NDArray[np.float32]) -> list[str]:
    """Return the answer to each example as text: the name of its most probable class, or its outputs with spaces.

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
    return [" ".join(f"{value:.9g}" for value in row) for row in values.tolist()]
