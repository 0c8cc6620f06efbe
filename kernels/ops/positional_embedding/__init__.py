"""Positional embedding: a vector of its own is added at each position of a sequence, primal and tangents."""
