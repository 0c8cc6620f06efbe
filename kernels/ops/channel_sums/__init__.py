"""Sums over pixels and examples: the gradient of each channel's scale and shift."""
