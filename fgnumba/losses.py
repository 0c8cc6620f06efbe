"""Losses; see :mod:`fgnumba.layers.losses`."""

from fgnumba.layers.losses import Loss as Loss
from fgnumba.layers.losses import MeanSquaredError as MeanSquaredError
from fgnumba.layers.losses import SoftmaxCrossEntropy as SoftmaxCrossEntropy
