"""Tolerances of metrics, beside those of ``tolerances.py``, whose rules they follow."""

from tests.tolerances import D, U, Within

METRIC = Within(64 * D, 64 * D)
"""A metric in float64 against another implementation: two sums of at most 60 terms in another order, each term of two
roundings, and their quotient; 60 D at worst, since all terms are positive."""
LOSS_CURVE = Within(160 * U)
"""The losses of 20 steps whose sums are taken in another order: each step adds a few roundings of float32, 20 x 8 U."""
