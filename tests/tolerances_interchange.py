"""Tolerances of models that came from elsewhere or go there; ``tests.tolerances`` says what a tolerance needs."""

SAME_NETWORK = 1e-5
"""Two outputs in float32, relative to the largest: sums of up to some thousand products that are added in two orders,
each rounding by 6e-8 of its size, layer after layer. Weights in a wrong order give 0.1 and more."""
