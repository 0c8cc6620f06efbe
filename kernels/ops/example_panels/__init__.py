"""Sums over examples: values and signals in panels, and their product."""
