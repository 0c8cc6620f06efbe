"""Finite differences of a loss: the losses of several passes, and the estimate that follows from them."""

FORTH, BACK, RETURN = range(3)
