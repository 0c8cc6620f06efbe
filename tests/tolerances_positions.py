"""Tolerances of what depends on positions of sequences, in float32; see ``tests.tolerances``."""

from tests.tolerances import U, Within

ADDED = Within(3 * U, 3 * U)
"""A number plus one of the table, or of the directions, of up to 6: one rounding."""
ADDED_GAUSSIAN = Within(absolute=90 * U)
"""The same of drawn normal numbers, whose logarithm is one of float32."""
TURNED = Within(absolute=16 * U)
"""Two products of numbers up to 5 with a rounded sine and a rounded cosine, and their sum: 2 U of each product, and U
of the sum."""
