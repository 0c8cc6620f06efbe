"""A graph of layers, bound to a batch size and run: values, tangents, directional derivatives."""
