"""Sums over pixels and examples: the gradient of a scale and a shift of each channel."""
