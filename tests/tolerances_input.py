"""Tolerances of second derivatives in a network's input, beside those of ``tolerances.py``, whose rules they follow."""

from tests.tolerances import U

CURVATURE = 64 * U
"""Of the larger of 1 and the expected second or third derivative of an activation: a dozen roundings of terms that
cancel, at most three times as large as their sum, and of an exponential or a density that is wrong by 10 U itself."""

COLLAPSED = 320 * U
"""Of the largest of its kind (values, first derivatives, sums of second derivatives): sums of up to some hundred terms
in each of three layers, `CHECKED_LAYER`, twice, since two derivatives of an activation are multiplied."""
COLLAPSED_TANGENT = 640 * U
"""The same differentiated once more: three derivatives are multiplied."""

INPUT_STEP = 2e-4
"""Step of second differences in float64 of a network in its input: truncation 1e-9 of fourth derivatives of order 1,
rounding D / 4e-8 = 3e-9, both far below `COLLAPSED`, 2e-5."""

PHYSICS = 640 * U
"""Of the largest residual, or of its largest derivative: `COLLAPSED_TANGENT`; what is in float64 adds nothing."""
SOLVED = 1e-3
"""A solution of order 1 by a network whose loss fell to 1e-4 and below: its error is a tenth of the residual's root."""
