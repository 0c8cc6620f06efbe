"""Tolerances of losses and layers that are functions, beside those of ``tolerances.py``, whose rules they follow."""

from tests.tolerances import U, Within

TRAINED = Within(1600 * U)
"""The loss after 40 or fewer steps of Adam that begin alike, beside that of a built-in loss or layer: a gradient is
wrong by 16 U in one of the two, and steps of Adam are of the learning rate's size, whose signs near 0 may differ; ten
times what that amounts to."""
