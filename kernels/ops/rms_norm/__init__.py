"""Root mean square normalisation: each pixel over its channels, primal and tangents."""
