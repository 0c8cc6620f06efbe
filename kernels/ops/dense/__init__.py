"""Dense layer: y = a(x W + b), primal and tangents."""
