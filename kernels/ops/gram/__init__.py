"""Gram matrices of drawn directions, and the coefficients of the directions in a forward gradient."""

import numpy as np

DEPENDENT = np.float64(1e-10)
"""A direction is left out if only this share of its square is left once the directions before it are taken away."""
