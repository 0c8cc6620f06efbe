"""Tolerances of learning rates that are measured, beside those of ``tolerances.py``, whose rules they follow."""

from tests.tolerances import U, Within

GAUSS_NEWTON = Within(1e-6, 1e-12)
"""A Gauss-Newton form beside the second difference of a float64 loss along the tangents, at a step h of 1e-4: its own
error is h² |f''''| / 12, at most 1e-8, and the losses' roundings over h², 4 · 2⁻⁵³ / 1e-8; both are below 1e-7."""

RATE = Within(640 * U)
"""A measured rate beside float64: the square root of a form in tangents of float32 outputs, each a sum of up to 30
products of roundings U, over a direction that is rounded three times; what is kept of it is float32, too."""

RATE_ALONG_A_STEP = Within(2e-2)
"""A measured rate beside the form along the difference of float32 parameters after and before a step: they are of size
1, the steps of 1e-4 and more, so that an entry has an error of 2⁻²⁴ / 1e-4 = 6e-4 of itself; rounded up for sums in
which entries cancel."""

RATE_ON_A_GPU = Within(64 * U)
"""Rates of two devices that follow the same steps, whose parameters differ by their roundings."""

NOT_CURVED = Within(absolute=1e-25)
"""A form along tangents that change no probability: the square of the rounding of a sum of 5 probabilities, 2⁻⁵¹."""
