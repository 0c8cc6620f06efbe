"""Two-dimensional convolution with its epilogue, primal and tangents."""
