"""Directions: what a kernel multiplies the parameters' tangents by. ``cpu`` draws them."""

NONE, RANK1, RADEMACHER, GAUSSIAN, EXPLICIT = range(5)
"""Kinds, as kernels know them. NONE: the parameters stand still. EXPLICIT: arrays given by the caller. From RADEMACHER
on, a product with V's entries is computed."""
