"""Rules of functions of arrays: reductions, linear algebra, and functions that move numbers."""

from fgnumba.functions.rules import (
    arrays,
    constants,
    elementwise,
    linear_algebra,
    moves,
    norms,
    products,
    reductions,
    selections,
    statistics,
)
from fgnumba.functions.rules.calls import tangent_of_call

__all__ = [
    "arrays",
    "constants",
    "elementwise",
    "linear_algebra",
    "moves",
    "norms",
    "products",
    "reductions",
    "selections",
    "statistics",
    "tangent_of_call",
]
