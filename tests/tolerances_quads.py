"""Tolerances of products of bfloat16 in quads; see ``tests.tolerances``."""

import math

from tests.tolerances import DEVIATIONS, U, Within

FACTORS = {1: 2.0**-7, 2: 3 * 2.0**-16, 3: 2.0**-23}
"""What a product of two float32 loses, by their number of parts, relative to |a w|. With one, each factor is
wrong by 2^-8. With two, what is left of each is 2^-16, and so is x₁w₁. With three, nothing is left of a number of 24
bits, and x₁w₂ and x₂w₁ are 2^-24."""


def quad_products(parts: int, terms: int) -> Within:
    """Return the bound of a sum of products of normal numbers, divided by the sum of their sizes.

    A rounding to odd is wrong by less than the last place of what it rounds, 2 U / √3 of that (a standard deviation).
    Two partial sums are rounded for four of K and each term, the k-th is about √k: together U K √(terms / 3), where the
    sizes add up to 2 K / π.
    """
    return Within(absolute=FACTORS[parts] + DEVIATIONS * U * math.pi / 2 * math.sqrt(terms / 3))
