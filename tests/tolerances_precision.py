"""Tolerances of products whose factors are bfloat16; see ``tests.tolerances``."""

from tests.tolerances import DEVIATIONS, U, Within

FACTORS = {
    "float32": 0.0,
    # Both factors are rounded to 8 bits, each by at most 2^-8: together 2^-7, and 2^-16 for the product of both errors.
    "bf16": 2.0**-7 + 2.0**-16,
    # What two parts leave of a factor is at most 2^-8 of the second part, which is at most 2^-8 of the first, 2^-16 in
    # all. Both factors, and the product of both second parts, which is left out, come to 3 * 2^-16.
    "bf16x2": 3 * 2.0**-16,
    # Three parts hold a float32 exactly. Three products are left out: twice that of a second and a third part, at most
    # 2^-8 * 2^-16 each, and one of two third parts, 2^-32.
    "bf16x3": 2 * 2.0**-24 + 2.0**-32,
}
"""Largest error of a product by precision, as a share of its magnitude."""

TERMS = {"float32": 1, "bf16": 1, "bf16x2": 3, "bf16x3": 6}
"""How many products are summed for each product of factors."""


def product_within(precision: str, inputs: int, magnitude: float) -> Within:
    """Return the bound for sums of `inputs` products whose magnitudes add up to at most `magnitude`.

    Every addition rounds a partial sum, which is at most `magnitude`, by U of it at most: a random walk.
    """
    rounding = DEVIATIONS * U * (TERMS[precision] * inputs) ** 0.5
    return Within(absolute=(FACTORS[precision] + rounding) * magnitude)
