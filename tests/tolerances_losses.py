"""Tolerances of losses of labels that are certain; see ``tolerances``."""

from tests.tolerances import CARRIED, Within

CERTAIN = Within(CARRIED.relative, 2.0**-126)
"""A loss or a derivative that is small because an example is well classified: nothing cancels, and below the smallest
normal float32 a number counts as zero."""
