"""Probabilities of classes and of labels, from a model's logits."""

from typing import Any

import numpy as np
import numpy.typing as npt


def sigmoid(logits: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
    """Return the probability of each label of logits: 1 / (1 + exp(-z)).

    Parameters
    ----------
    logits : ndarray
        (n, labels) float32 or float64.

    Returns
    -------
    ndarray
        (n, labels) of the same dtype, computed in float64.
    """
    small = np.exp(-np.abs(logits.astype(np.float64)))
    probabilities: npt.NDArray[Any] = (np.where(logits >= 0, 1.0, small) / (1.0 + small)).astype(logits.dtype)
    return probabilities


def softmax(logits: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
    """Return the class probabilities of logits.

    Parameters
    ----------
    logits : ndarray
        (n, classes) float32 or float64.

    Returns
    -------
    ndarray
        (n, classes) of the same dtype, computed in float64.
    """
    z = logits.astype(np.float64)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    probabilities: npt.NDArray[Any] = (z / z.sum(axis=1, keepdims=True)).astype(logits.dtype)
    return probabilities
