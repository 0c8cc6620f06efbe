"""Models: graphs of layers, the plans that run them, and their outputs, tangents and directional derivatives."""
