"""Max-pooling: the maximum over windows of an image, primal and tangents."""
