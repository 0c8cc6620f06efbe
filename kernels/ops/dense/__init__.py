"""Dense layer: y = a(x W + b) and its tangents. ``cpu`` binds it."""
