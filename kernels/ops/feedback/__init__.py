"""Feedback matrices: the response of an observed output to noise, predicted and learned."""

import numpy as np

COEFFICIENTS = np.dtype([("keep", np.float64), ("gain", np.float64)])
"""k and c of a step of learning."""
