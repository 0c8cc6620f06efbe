"""Embedding: rows of a table by symbols, primal and tangents."""
