"""Finite differences of a loss: what is kept of each pass, and what follows from two of them."""

FORTH, BACK, RETURN = range(3)
