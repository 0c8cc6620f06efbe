"""Losses, each of which is a mean over a batch; see :mod:`fgnumba.layers.losses`."""

from fgnumba.layers.losses import (
    Loss,
    MeanSquaredError,
    SoftmaxCrossEntropy,
)

__all__ = [
    "Loss",
    "MeanSquaredError",
    "SoftmaxCrossEntropy",
]
