"""Tolerances of products whose factors are bfloat16; see ``tests.tolerances``."""

from collections.abc import Sequence

from tests.tolerances import DERIVATIVE, DEVIATIONS, NEAR_A_KINK, U, Within

FACTORS = {
    "float32": 0.0,
    "bf16": 2.0**-7 + 2.0**-16,
    "bf16x2": 2.0**-15,
    "bf16x3": 2.0**-24 + 2.0**-34,
}
"""Largest error of a product by precision, as a share of its magnitude: what is left out of it.

A factor of 1 to 2 is up to 2⁻⁸ more or less than its first part. That rest is rounded by up to 2⁻¹⁷, and what is then
left has six bits, which a third part holds exactly. Left out of a product are: with one part, both rests and the
product of them; with two, 2⁻¹⁷ of either factor, and the product of both second parts, 2⁻¹⁶; with three, twice that of
a second and a third part, 2⁻⁸ 2⁻¹⁷ each, and that of both third parts, 2⁻³⁴.
"""

TERMS = {"float32": 1, "bf16": 1, "bf16x2": 3, "bf16x3": 6}
"""How many products are summed for each product of factors."""


def product_within(precision: str, inputs: int, magnitude: float) -> Within:
    """Return the bound for sums of `inputs` products whose magnitudes add up to at most `magnitude`.

    Every addition rounds a partial sum, which is at most `magnitude`, by U of it at most: a random walk.
    """
    rounding = DEVIATIONS * U * (TERMS[precision] * inputs) ** 0.5
    return Within(absolute=(FACTORS[precision] + rounding) * magnitude)


def filtered_within(precision: str, terms: int) -> float:
    """Return the bound of a convolution's sum of `terms` products, relative to the sum of their magnitudes.

    Partial sums round by U / √3 of themselves: `DEVIATIONS` of the walk are 3 U √n. A transformation before the sum,
    and one after it, round a few times.
    """
    return FACTORS[precision] + U * (16 + 3 * (TERMS[precision] * terms) ** 0.5)


AS_FLOAT32 = ("float32", "bf16x3")
"""Precisions whose derivatives are held to float32's own bound, `DERIVATIVE`: their products are wrong by up to 2 U."""


def derivative_within(pair: Sequence[str], products: int, kinks: bool = False) -> float:
    """Return the bound of a directional derivative's error, as a share of ‖∇f‖ ‖v‖, by precision.

    Each of the products in a row is wrong by at most `FACTORS` of the lengths of its vectors, the primal's and the
    tangent's, and what is wrong goes on through the layers as a tangent does. A unit that stands nearer to a kink than
    the primal's error may be on its other side: a share `FACTORS` of the units, since the density of values of unit
    deviation is 0.4 at zero, on either side. They have the root of that share of the gradient's length.

    Parameters
    ----------
    pair : sequence of str
        The precisions of the primal and of tangents.
    products : int
        Number of products in a row: layers, and positions of a recurrent layer.
    kinks : bool
        Whether the network has kinks, those of ReLU or of maxima.
    """
    primal, tangent = pair
    if primal in AS_FLOAT32 and tangent in AS_FLOAT32:
        return DERIVATIVE
    crossed = FACTORS[primal] ** 0.5 if kinks and primal not in AS_FLOAT32 else 0.0
    return DERIVATIVE + products * (FACTORS[primal] + FACTORS[tangent]) + crossed


CROSSED = NEAR_A_KINK**0.5
"""Of ‖∇f‖ ‖v‖, what a derivative in float32 may be wrong by where a unit stands within `NEAR_A_KINK`: a share of that
many units may be on the other side of their kinks, and have the root of it of the gradient's length."""
PAGE = 4.0
"""How far the largest of some errors may be from what the page of precisions has, either way: of some directions in
place of all, and of networks whose training has other roundings on another processor."""


STUDENT = Within(2e-4)
"""A quantile of Student's t by five terms of a series in 1 / ν: at ν = 7 the last are 7e-3 and 7e-4."""


def bias_within(pair: Sequence[str], products: int, kinks: bool = False) -> float | None:
    """Return what a precision may add to the bias of an estimate, as a share of the gradient's largest entry.

    An entry of the gradient is a derivative along a unit vector. None where that is float32's own rounding.
    """
    if all(precision in AS_FLOAT32 for precision in pair):
        return None
    return derivative_within(pair, products, kinks)


def difference_of_losses(primal: str, epsilon: float, loss: float) -> float:
    """Return what a precision of the primal adds to the error of a central difference of losses.

    Each of two losses is wrong by `FACTORS` of its size at most, and nothing makes both wrong alike: what their
    weights differ by is smaller than what is rounded.
    """
    return FACTORS[primal] * loss / epsilon
