"""Layer normalisation: each pixel is normalised over its channels, primal and tangents."""
