"""Normalisation of each example over groups of channels, primal and tangents."""
