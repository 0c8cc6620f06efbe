"""Tolerances of recurrences in float32; see ``tests.tolerances``."""

from tests.tolerances import U, Within

RECURRED = Within(100 * U, 100 * U)
"""States of up to 4 and tangents of up to 20, in a random walk through 70 positions: an activation's 7 U and a slope's
14 U come in at each, and the factor before a state, below 1 for most units, lets an error fade within ten."""
RECURRED_GATES = Within(32 * U, 32 * U)
"""The gates of such a recurrence: an activation of a sum with a state, wrong by some roundings of its own."""
EMBEDDED = Within(2 * U, 2 * U)
"""A number of a table plus one of the bias: one rounding, and that of a drawn normal number."""
EMBEDDED_GAUSSIAN = Within(absolute=90 * U)
"""The same of normal numbers: ``GAUSSIAN_ON_A_GPU`` for each of the two that are added."""
LONG = Within(absolute=1000 * U)
"""Outputs of 512 units after 64 positions on two devices: each unit as `RECURRED`, in sums of 512 terms
of either sign."""
