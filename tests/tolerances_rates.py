"""Tolerances of learning-rate range tests, beside those of ``tolerances.py``, whose rules they follow."""

from tests.tolerances import D, Within

RATE = Within(64 * D, 0.0)
"""A rate as the exponential of a weighted mean of two logarithms of at most 10: the two logarithms, two weights, two
products and the sum are each rounded by D of at most 10, and the exponential once more; 51 D at worst."""

LOG_RATIO = Within(0.0, 256 * D)
"""The logarithm of the ratio of two such rates: twice the error of a rate, and three roundings of logarithms of at most
10; 2 · 51 D + 30 D at worst."""

RUNNING_MEAN = Within(32 * D, 0.0)
"""Three terms of a running mean of positive numbers beside their closed form: a difference, a product, a quotient and a
sum for each, of numbers up to twice the result, and four roundings of the closed form."""
