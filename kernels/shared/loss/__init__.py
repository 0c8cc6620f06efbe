"""What losses share: each example reduced to its loss and tangents, and the mean of them."""

import numpy as np
import numpy.typing as npt

RESULT = np.dtype([("finite", np.int64)])
"""Outcome of a pass: `finite` is 1 where loss and directional derivatives are finite in float32, as updates are."""

MOST = np.float64(np.finfo(np.float32).max)
"""The largest float32."""


def in_float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which values a pass that ends `finite` may have."""
    return np.abs(values) <= MOST
