"""Rules of functions of arrays: reductions, linear algebra, and functions that move numbers."""

from fgnumba.functions.rules import (
    arrays,
    constants,
    linear_algebra,
    moves,
    norms,
    products,
    reductions,
    selections,
)
from fgnumba.functions.rules.calls import tangent_of_call

__all__ = [
    "arrays",
    "constants",
    "linear_algebra",
    "moves",
    "norms",
    "products",
    "reductions",
    "selections",
    "tangent_of_call",
]
