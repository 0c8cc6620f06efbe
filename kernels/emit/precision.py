"""How the factors of products are represented: as float32, or as sums of bfloat16.

A bfloat16 is a float32 without the lower half: 8 bits of significand in place of 24. A float32 is the sum of three of
them, x = x₀ + x₁ + x₂, each the rounding of what the ones before it leave. A product of two such sums has nine terms;
those that are smaller than float32's own rounding are left out. Every term is summed in float32.

    bf16     x₀w₀                                        largest relative error of a product 2^-7
    bf16x2   x₀w₀ + x₀w₁ + x₁w₀                          2^-15
    bf16x3   x₀w₀ + x₀w₁ + x₁w₀ + x₁w₁ + x₀w₂ + x₂w₀     2^-24, a float32's rounding

Source: G. Henry, P. T. P. Tang, A. Heinecke, Leveraging the bfloat16 artificial intelligence datatype for
higher-precision computations, arXiv 1904.06376, section 3.
"""

from dataclasses import dataclass

FLOAT32 = "float32"

EXACT = "bf16x3"
"""The precision that is as exact as float32."""


@dataclass(frozen=True)
class Precision:
    """A precision of products.

    Parameters
    ----------
    name : str
        Its name.
    parts : int
        The number of bfloat16 that a factor is the sum of. 0: factors are float32.
    terms : tuple of (int, int)
        The products of parts (i, j), xᵢ wⱼ, that are summed, in this order. Products with the same j follow each
        other, so that each part of W is loaded once, and so do most with the same i.
    """

    name: str
    parts: int
    terms: tuple[tuple[int, int], ...]


PRECISIONS = {
    each.name: each
    for each in (
        Precision(FLOAT32, 0, ()),
        Precision(EXACT, 3, ((0, 2), (0, 1), (1, 1), (1, 0), (2, 0), (0, 0))),
        Precision("bf16x2", 2, ((0, 1), (0, 0), (1, 0))),
        Precision("bf16", 1, ((0, 0),)),
    )
}
"""The precisions by name."""

AUTO = "auto"
"""The name that stands for the fastest precision whose JVPs are as exact as float32's."""
