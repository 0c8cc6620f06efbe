"""Activations as scalar rules, which the kernels of other operations apply in their epilogues."""
