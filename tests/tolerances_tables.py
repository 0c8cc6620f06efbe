"""Tolerances of tables; see ``tests/tolerances.py``."""

from tests.tolerances import U, Within

FEATURES = Within(U, 1e-12)
"""A feature is computed in float64 and rounded to float32 once; the mean of 40 numbers up to 900 rounds to 1e-13."""
TARGETS = Within(absolute=5 * 300 * U)
"""A standardised target of at most 5 is rounded to float32 once; its deviation is 300."""
