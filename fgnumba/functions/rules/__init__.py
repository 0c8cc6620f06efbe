"""Rules of functions of arrays: reductions, linear algebra, and functions that move numbers."""

from fgnumba.functions.rules import constants, linear_algebra, moves, reductions, selections
from fgnumba.functions.rules.calls import tangent_of_call

__all__ = ["constants", "linear_algebra", "moves", "reductions", "selections", "tangent_of_call"]
