"""Projections: the dot product of a stored array with each drawn direction."""
