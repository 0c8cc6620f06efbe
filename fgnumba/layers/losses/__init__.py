"""Losses: a mean over the batch, and its directional derivatives along the tangents of the outputs."""

from fgnumba.layers.losses.base import Loss, WeightedLoss
from fgnumba.layers.losses.cross_entropy import SoftmaxCrossEntropy
from fgnumba.layers.losses.example_weights import ExampleWeights
from fgnumba.layers.losses.function import FunctionLoss
from fgnumba.layers.losses.real_targets import BinaryCrossEntropy, Huber, MeanSquaredError

__all__ = [
    "BinaryCrossEntropy",
    "ExampleWeights",
    "FunctionLoss",
    "Huber",
    "Loss",
    "MeanSquaredError",
    "SoftmaxCrossEntropy",
    "WeightedLoss",
]
