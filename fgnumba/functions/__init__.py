"""Functions of one's own with exact derivatives by forward mode, and test functions on which to watch them."""

from fgnumba.functions.objectives import Beale, Objective, Rosenbrock, beale, rosenbrock

__all__ = ["Beale", "Objective", "Rosenbrock", "beale", "rosenbrock"]
