"""Gram matrices of drawn directions, and the coefficients that combine what was seen along them."""
