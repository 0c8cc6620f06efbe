"""Group normalisation: each example is normalised over groups of channels, primal and tangents."""
