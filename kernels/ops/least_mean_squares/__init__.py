"""Least mean squares: the part of responses that a matrix does not predict, times a gain, in panels of columns."""
