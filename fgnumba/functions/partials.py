"""Scalar functions and their partial derivatives: the one table from which all tangents of numbers are written.

A partial derivative is an expression in Python over the function's arguments, its value ``y``, and functions of this
table or of :data:`AUXILIARY`. A division never raises an exception there: 1/0 is infinite and 0/0 is NaN.

Conventions at kinks are JAX's: abs'(0) = 1, also at −0; where two values tie, maximum and minimum give each a half of
the tangent, fmax and fmin all of it to the second; hypot gives each a half at (0, 0); a power has slope b aᵇ⁻¹, which
is NaN at 0 ** 0.0, and 0 if the exponent is the integer 0. Python's ``max`` and ``min`` are maximum and minimum here.

The formulas are those of M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions, 1964, chapters 4 and 6.
"""

import ast
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class ScalarFunction:
    """A scalar function: the names of its arguments, and one partial derivative for each.

    Parameters
    ----------
    arguments : tuple of str
        Names of the arguments in `partials`; ``y`` is the function's value there.
    partials : tuple of str
        ∂y/∂argument as an expression in Python; "0" where it is zero wherever the function has a derivative.
    """

    arguments: tuple[str, ...]
    partials: tuple[str, ...]

    @property
    def is_constant(self) -> bool:
        """Whether all partial derivatives are zero, as those of rounding are."""
        return all(partial == "0" for partial in self.partials)


def _unary(**partials: str) -> dict[str, ScalarFunction]:
    return {name: ScalarFunction(("x",), (partial,)) for name, partial in partials.items()}


def _binary(**partials: tuple[str, str]) -> dict[str, ScalarFunction]:
    return {name: ScalarFunction(("a", "b"), both) for name, both in partials.items()}


LOG_2, LOG_10 = "0.6931471805599453", "2.302585092994046"
DEGREE = "0.017453292519943295"

SCALAR_FUNCTIONS: dict[str, ScalarFunction] = {
    # Arithmetic.
    **_unary(
        negative="-1", positive="1", conjugate="1", square="2 * x", reciprocal="-(y * y)", absolute="side(x)"
    ),
    **_binary(
        add=("1", "1"),
        subtract=("1", "-1"),
        multiply=("b", "a"),
        divide=("1 / b", "-(y / b)"),
        power=("power_slope(a, b)", "y * log(nonzero(a))"),
        remainder=("1", "-floor(a / b)"),
        fmod=("1", "-trunc(a / b)"),
        floor_divide=("0", "0"),
    ),
    # Exponentials and logarithms.
    **_unary(
        exp="y",
        exp2=f"y * {LOG_2}",
        expm1="exp(x)",
        log="1 / x",
        log2=f"1 / (x * {LOG_2})",
        log10=f"1 / (x * {LOG_10})",
        log1p="1 / (1 + x)",
        sqrt="0.5 / y",
        cbrt="1 / (3 * (y * y))",
    ),
    **_binary(
        logaddexp=("exp(a - y)", "exp(b - y)"),
        logaddexp2=("exp2(a - y)", "exp2(b - y)"),
    ),
    # Trigonometric and hyperbolic functions, and their inverses.
    **_unary(
        sin="cos(x)",
        cos="-sin(x)",
        tan="1 + y * y",
        arcsin="1 / sqrt((1 - x) * (1 + x))",
        arccos="-(1 / sqrt((1 - x) * (1 + x)))",
        arctan="1 / (1 + x * x)",
        sinh="cosh(x)",
        cosh="sinh(x)",
        tanh="1 / square(cosh(x))",
        arcsinh="1 / sqrt(x * x + 1)",
        arccosh="1 / sqrt((x - 1) * (x + 1))",
        arctanh="1 / ((1 - x) * (1 + x))",
        degrees=f"1 / {DEGREE}",
        radians=DEGREE,
        sinc="sinc_slope(x)",
    ),
    **_binary(
        arctan2=("turning(b, a)", "-turning(a, b)"),
        hypot=("cosine(a, y)", "cosine(b, y)"),
    ),
    # Special functions of the standard library.
    **_unary(
        erf="1.1283791670955126 * exp(-(x * x))",
        erfc="-1.1283791670955126 * exp(-(x * x))",
        gamma="y * digamma(x)",
        lgamma="digamma(x)",
    ),
    # Choices.
    **_binary(
        maximum=("larger_share(a, b)", "larger_share(b, a)"),
        minimum=("larger_share(b, a)", "larger_share(a, b)"),
        fmax=("first_is_larger(a, b)", "1 - first_is_larger(a, b)"),
        fmin=("first_is_smaller(a, b)", "1 - first_is_smaller(a, b)"),
        copysign=("side(a) * copysign(1, b)", "0"),
        ldexp=("ldexp(1, b)", "0"),
        nextafter=("1", "0"),
    ),
    # Piecewise constant functions.
    **_unary(sign="0", floor="0", ceil="0", trunc="0", rint="0", spacing="0"),
}

ANALYTIC = frozenset(
    (
        *("add", "subtract", "multiply", "divide", "negative", "positive", "square", "reciprocal"),
        *("exp", "log", "sqrt", "sin", "cos", "sinh", "cosh", "tan", "tanh"),
    )
)
"""Functions whose partial derivatives hold for complex numbers, too."""

AUXILIARY = {
    "side": "1 where x ≥ 0, −1 elsewhere",
    "power_slope": "∂(a ** b)/∂a: b a^(b − 1), and 0 where b is the integer 0",
    "nonzero": "x, and 1 where x = 0",
    "larger_share": "1 where a > b, 1/2 where they tie, 0 elsewhere",
    "first_is_larger": "1 where a > b or b is NaN, 0 elsewhere",
    "first_is_smaller": "1 where a < b or b is NaN, 0 elsewhere",
    "turning": "a / (a² + b²), without overflow",
    "cosine": "a / y, and 1/2 where y = 0",
    "sinc_slope": "derivative of sin(π x) / (π x)",
    "digamma": "derivative of log Γ",
}
"""What partial derivatives call besides the functions of the table; :mod:`fgnumba.functions.auxiliary` has the code."""


@cache
def expression(partial: str) -> ast.expr:
    """Return a partial derivative of the table as a syntax tree."""
    return ast.parse(partial, mode="eval").body
