"""Activations on a GPU: those that are part of a layer's product.

The rectifiers and the identity are one rule, a(z) = z for z > 0, else alpha z, whose slope follows from its output too.
A product applies them to its sums. Every other activation is an elementwise operation after the product (``rules``).
"""

import numpy as np

from fgnumba.kernels.machine.scalar import scalar

ALPHA = {"identity": 1.0, "relu": 0.0, "leaky_relu": 0.01}
"""Slope alpha for z <= 0 of each activation that is part of a product."""

_ZERO, _ONE = np.float32(0), np.float32(1)


@scalar
def leaky(z: np.float32, alpha: np.float32) -> tuple[np.float32, np.float32]:
    """Return a(z) and a'(z). NaN stays NaN, and minus infinity gives 0 where alpha is 0."""
    if z > _ZERO:
        return z, _ONE
    if z <= _ZERO and alpha == _ZERO:
        return _ZERO, _ZERO
    return alpha * z, alpha
