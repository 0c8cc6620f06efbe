"""Average pooling: the mean over windows of an image, primal and tangents."""

RUN = 16
"""How many numbers are summed in float32. The sum's error is at most U RUN / 2 times their size, U = 2⁻²⁴."""
