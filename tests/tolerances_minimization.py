"""Tolerances of descents of functions, beside those of ``tolerances.py``, whose rules they follow."""

from tests.tolerances import D, Within

GRADIENT = Within(900 * D, 900 * D)
"""A gradient of sums of up to 20 products of numbers of order 1 beside its formula in NumPy."""
STEPS = Within(9000 * D, 9000 * D)
"""Twelve steps of an optimiser beside its formula: some ten roundings each, of numbers of order 1, and what a root
near 0 makes of them."""
REACHED = Within(absolute=1e-3)
"""Where a descent ends whose learning rate falls to 0, beside the minimum: the last steps are as small."""
EXACT_REACHED = Within(absolute=1e-6)
"""The same along the exact gradient of a function without noise."""
