"""Gram matrices of drawn directions, and the coefficients of the directions in a forward gradient."""
