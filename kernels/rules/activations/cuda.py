"""Activations on a GPU: those that are part of a layer's product.

The rectifiers and the identity are one rule, a(z) = z for z > 0, else alpha z, whose slope follows from its output too.
A product applies them to its sums. Every other activation is an elementwise operation after the product (``rules``).
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from fgnumba.kernels.machine.scalar import scalar
from fgnumba.kernels.rules.activations.rules import RULES, Rule, rule_of

Made = TypeVar("Made")

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


class Members(Generic[Made]):
    """What a family of kernels has for each activation: of fgnumba's own from the start, of a user's when asked for.

    Parameters
    ----------
    make : callable
        Takes an activation's name and its rule, and returns its kernel or kernels.
    """

    def __init__(self, make: Callable[[str, Rule], Made]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made = {name: make(name, rule) for name, rule in RULES.items()}

    def __getitem__(self, name: str) -> Made:
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name, rule_of(name))
            return self._made[name]
