"""Tolerances of derivatives of functions, beside those of ``tolerances.py``, whose rules they follow."""

from tests.tolerances import D, Within

CONVENTION = Within(8 * D)
"""Derivatives at kinks: 0, 1, halves and thirds, infinite or none, and a few products of rounded constants."""

PROGRAM_ROUNDINGS = 100
"""Roundings of a program's own (``tests/functions/exact_derivatives.py`` measures one) by which values and derivatives
may be wrong. A library's elementary function is wrong by one or two units, a partial derivative takes a few operations
where the program has one, and sums, products and eliminations are made in another order."""

DIFFERENCES = 1e-18
"""What differences in 50 digits leave of a derivative that is 0, of numbers of order 1."""

COMPLEX_STEP = 1000
"""Roundings by which the complex step in complex128 may be wrong: it computes quotients, powers and functions of
complex numbers, which round several times where float64 rounds once, and cancel where those do not."""
