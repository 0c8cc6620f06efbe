"""Activations as scalar rules, which the kernels of layers apply to their results (their *epilogue*)."""
