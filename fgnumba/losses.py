"""Losses, each of which is a mean over a batch; see :mod:`fgnumba.layers.losses`."""

from fgnumba.layers.losses import (
    BinaryCrossEntropy,
    ExampleWeights,
    Huber,
    Loss,
    MeanSquaredError,
    SoftmaxCrossEntropy,
    WeightedLoss,
)

__all__ = [
    "BinaryCrossEntropy",
    "ExampleWeights",
    "Huber",
    "Loss",
    "MeanSquaredError",
    "SoftmaxCrossEntropy",
    "WeightedLoss",
]
