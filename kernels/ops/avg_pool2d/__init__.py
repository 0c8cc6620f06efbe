"""Mean over windows of an image, primal and tangents."""

RUN = 16
"""Numbers whose sum is a float32: wrong by U RUN / 2 of them at most."""
