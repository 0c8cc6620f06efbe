"""The kinds of direction: along which tangents of the parameters a pass differentiates. ``cpu`` draws them."""

NONE, RANK1, RADEMACHER, GAUSSIAN, EXPLICIT = range(5)
"""The kinds, as kernels number them.

NONE: the parameters' tangents are zero. RANK1: V = u wᵀ with vectors of random signs. RADEMACHER: every entry of V is a
random sign. GAUSSIAN: every entry is a standard normal number. EXPLICIT: the caller gives V as an array. For RADEMACHER
and every later kind, a pass computes a product with the entries of V.
"""
