"""Directions: what a kernel multiplies the parameters' tangents by. ``cpu`` draws them."""

NONE, RANK1, RADEMACHER, GAUSSIAN, EXPLICIT = range(5)
"""Kinds, as kernels know them. NONE: primal only. EXPLICIT: arrays given by the caller."""
