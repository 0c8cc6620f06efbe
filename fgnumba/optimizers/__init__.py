"""Optimisers: rules by which a training step moves the parameters along a gradient estimate."""

from fgnumba.optimizers.adam import Adam, AdamW
from fgnumba.optimizers.base import Gradients, Memory, Optimizer
from fgnumba.optimizers.frank_wolfe import FrankWolfe
from fgnumba.optimizers.sgd import SGD

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "FrankWolfe", "Gradients", "Memory", "Optimizer"]

OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "frank-wolfe": FrankWolfe}
"""The optimisers, by the names that configurations use."""
