"""Learning block by block: a loss at each addition to a residual stream, and learned feedback to what was added.

``layout`` finds the stream of a model and its branches, ``feedback`` has the matrices that carry errors into a branch
and how they learn, ``plan`` puts down the operations of a step, and ``estimator`` is what users see.
"""

from fgnumba.estimators.blocks.estimator import RECIPES, BlockFeedback

__all__ = ["RECIPES", "BlockFeedback"]
