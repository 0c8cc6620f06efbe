"""Tolerances of metrics, beside those of ``tolerances.py``, whose rules they follow."""

from tests.tolerances import D, Within

METRIC = Within(64 * D, 64 * D)
"""A metric in float64 against another implementation: two sums of at most 60 terms in another order, each term of two
roundings, and their quotient; 60 D at worst, since all terms are positive."""
