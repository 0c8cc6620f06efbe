"""The units that activity perturbation adds noise to: how kernels walk over them and draw their signs."""

SLOPE_FROM_OUTPUT = ("identity", "relu", "leaky_relu")
"""Activations whose slope is the same function of their output as of what they are applied to."""
