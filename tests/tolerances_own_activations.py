"""Tolerances of activations of one's own, beside those of ``tolerances.py``, whose rules they follow."""

from tests.tolerances import U, Within

SAME_FORMULA = Within(64 * U, 64 * U)
"""Outputs of a small network whose activation is written in two ways, each of which has up to 16 roundings of U (exp,
quotients, products); sums of at most 64 terms average them, and the derivative has twice as many."""

TRAINED = Within(1e-3, 0.0)
"""A loss after 20 steps of two such networks: roundings of 1e-6 in each step's gradient, through Adam, whose steps of
1e-3 may differ in sign where a gradient is as small as its rounding."""

FUNCTIONS = {
    "sqrt": 0.5,  # rounded correctly
    "cbrt": 1.0,  # a step of Newton's method on a value within 1e-5
    "exp2": 1.5,  # exp (1.1), and a product with log 2
    "log1p": 3.0,  # log (0.9), a quotient, a product
    "log2": 2.5,  # log, a product with a rounded constant
    "log10": 2.5,  # as log2
    "sinh": 3.5,  # exp twice in a product; expm1, a quotient, a sum
    "cosh": 3.5,  # exp twice in a product
    "arcsinh": 4.0,  # a root, a quotient, a sum, log1p
    "arccosh": 4.0,  # as arcsinh
    "arctanh": 4.0,  # a quotient, log1p
    "floor": 0.0,  # nothing is rounded
    "sin": 4.5,  # a reduced argument, a polynomial of 1.6
    "cos": 4.5,  # as sin
    "tan": 7.0,  # sin, cos, a quotient
    "arctan": 3.0,  # a quotient, a polynomial, a sum
    "arcsin": 4.0,  # a root, a quotient, arctan
    "arccos": 4.0,  # as arcsin
    "erfc": 7.0,  # the normal distribution function (5.7), a rounding of its argument below 1
    "tanh_slope": 6.5,  # exp, a reciprocal squared, two products
}
"""Largest errors of the functions of ``kernels/rules/compound.py`` and ``trigonometric.py``, in units in the last place
of results that are normal numbers."""

ONE_OPERATION = Within(16 * U, 0.0)
"""A value or a slope of at most three operations, a power among them: at most 15 roundings."""

UNDERFLOWN = Within(0.0, 2.0**-118)
"""z / (1 + e⁻ᶻ) for z of 89 to 10⁴ below 0, where e⁻ᶻ is infinite: at most 89 times the reciprocal of the largest
number, 2.6e-37; 3e-36 is 2⁻¹¹⁸."""

DIFFERENCED = Within(1e-7, 1e-4)
"""A second or third derivative in float32 beside central differences of the one before in float64, with a step of 1e-5:
truncation is 1e-10 of a derivative two orders higher, up to 10⁴ near 0 here; roundings of up to 64 operations of
numbers of up to 10."""

SUMMED = Within(512 * U, 64 * U)
"""A derivative along all ones beside the sum of 30 entries of the gradient: 30 sums, and 16 roundings of each."""
