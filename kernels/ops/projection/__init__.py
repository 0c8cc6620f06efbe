"""Projections: a stored array along drawn directions."""
