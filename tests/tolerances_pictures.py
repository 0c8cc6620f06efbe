"""Tolerances of what pictures show, beside those of ``tests/tolerances.py``."""

from tests.tolerances import D, Within

# Widths of bars are written as percentages with two decimals, half a unit of the last of which is rounded.
WIDTH = Within(absolute=0.0051)
# Float64: means of at most 30 losses, and errors of 100 (1 - accuracy), of which each operation rounds once.
DRAWN = Within(relative=64 * D, absolute=200 * D)
# Float64: multiples of a power of ten; one product and the power's own rounding.
TICKS = Within(relative=8 * D, absolute=8 * D)
