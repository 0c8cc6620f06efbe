"""Tolerances of attention; see ``tests.tolerances``."""

from tests.tolerances import Within

ATTENTION = {"float32": 1e-5, "float64": 1e-12}
"""Bounds of an entry's error, as shares of the largest sum of magnitudes of an entry's terms: of y, Σ p |v|; of dy,
Σ p (|dv| + |dS| |v|) + |y| Σ p |dS|. This is the size of what is added up; dy itself may be zero, as for a single key.
What is rounded most is the exponent: a score that is a sum of 256 products, or one of 10, is wrong by some ten units of
rounding of numbers around 10, and so is p relative to itself. The largest errors of 4,000 cases are in the test."""


def attention_within(dtype: str, size: float) -> Within:
    """Return the bound for entries whose terms' magnitudes add up to at most `size`."""
    return Within(absolute=ATTENTION[dtype] * size)
