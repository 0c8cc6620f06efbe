"""Normalisation of each pixel over its channels, primal and tangents."""
