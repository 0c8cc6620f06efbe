"""Checks for layers, activations, losses and estimators that somebody writes for themselves.

Each check runs what it is given as training would run it, compares the results with a reference, and raises
``AssertionError`` with a message that says what differs, where, and by how much. A check that passes returns what it
measured. All of them draw their numbers from a seed: a check that passes once passes always.
"""

from fgnumba.testing.activations import check_activation
from fgnumba.testing.estimators import EstimatorReport, check_estimator, gradient_by_coordinates
from fgnumba.testing.layers import check_layer
from fgnumba.testing.losses import check_loss

__all__ = [
    "EstimatorReport",
    "check_activation",
    "check_estimator",
    "check_layer",
    "check_loss",
    "gradient_by_coordinates",
]
