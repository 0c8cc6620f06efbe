"""Formulas that are compiled for every device: activations, directions, random numbers, means."""
