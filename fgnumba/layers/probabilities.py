"""Probabilities of classes and of labels, from a model's logits."""

import numpy as np
import numpy.typing as npt


def sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the probability of each label of logits: 1 / (1 + exp(-z)).

    Parameters
    ----------
    logits : ndarray
        (n, labels) float32.

    Returns
    -------
    ndarray
        (n, labels) float32, computed in float64.
    """
    small = np.exp(-np.abs(logits.astype(np.float64)))
    return (np.where(logits >= 0, 1.0, small) / (1.0 + small)).astype(np.float32)


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
