"""Feedback matrices, which predict how an observed output responds to noise on a layer, and are learned from it."""

import numpy as np

COEFFICIENTS = np.dtype([("keep", np.float64), ("gain", np.float64)])
"""k and c of one step of learning."""
