"""Normalisation of groups of channels and of examples."""
