"""Two-dimensional convolution with bias and activation, primal and tangents, and the gradient of its weights."""
