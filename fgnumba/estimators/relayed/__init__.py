"""Relayed feedback: errors that learned matrices carry from layer to layer of a model of vectors.

It stands on the feedback matrices and the forward pass of ``fgnumba.estimators.blocks``.
"""

from fgnumba.estimators.relayed.estimator import RECIPES, RelayedFeedback

__all__ = ["RECIPES", "RelayedFeedback"]
