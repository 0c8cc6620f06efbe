"""Tolerances of derivatives of functions, beside those of ``tolerances.py``, whose rules they follow."""

from tests.tolerances import D, Within

SAME_FUNCTION = Within(2.0**14 * D, 2.0**14 * D)
"""A function of nine float64 numbers in another order of operations: its condition, at most a few hundred at the point
of the tests, times some tens of roundings."""
DIFFERENCE = Within(1e-9, 1e-9)
"""A difference of four float64 values with h = 2⁻¹⁰: h⁴/30 ≈ 3e-14 of the fifth derivative, which is below 10⁴ for the
functions of the tests, and 2 D/h ≈ 2e-13 of the value times its condition."""
SECOND_DIFFERENCE = Within(1e-5, 1e-5)
"""A difference of five float64 values with h = 2⁻⁸: h⁴/90 ≈ 3e-12 of the sixth derivative, below 10⁶ for the functions
of the tests, and 6 D/h² ≈ 4e-11 of the value times its condition."""
