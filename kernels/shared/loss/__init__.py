"""What losses share: the reduction of each example to its loss and tangents, and the mean over the examples."""

import numpy as np
import numpy.typing as npt

RESULT = np.dtype([("finite", np.int64)])
"""Outcome of a pass: `finite` is 1 if the loss and all directional derivatives are finite in float32, like updates."""

MOST = np.float64(np.finfo(np.float32).max)
"""The largest float32."""


def in_float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which of the values are allowed in a pass that ends `finite`."""
    return np.abs(values) <= MOST
