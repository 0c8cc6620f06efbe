"""Optimisers: rules by which a training step moves the parameters along a gradient estimate."""

from fgnumba.optimizers.adam import Adam, AdamW
from fgnumba.optimizers.base import Gradients, Memory, Optimizer
from fgnumba.optimizers.frank_wolfe import FrankWolfe
from fgnumba.optimizers.measured_rate import MeasuredRate
from fgnumba.optimizers.sgd import SGD

__all__ = [
    "AUTO",
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "FrankWolfe",
    "Gradients",
    "MeasuredRate",
    "Memory",
    "Optimizer",
]

OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "frank-wolfe": FrankWolfe}
"""The optimisers, by the names that configurations use."""
AUTO = "auto"
"""The name that stands for the optimiser that suits an estimator, with a learning rate that is measured."""
