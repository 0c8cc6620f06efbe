"""Keep the few values that were asked for last: plans take memory, and a caller may use many batch sizes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

KEPT = 8
"""The number of plans that a model or a trainer keeps: those that were used last."""


class Recent(OrderedDict[K, V]):
    """A dictionary that keeps the :data:`KEPT` values that were asked for last, and drops older ones."""

    def of(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of `key`; if it is not there, call `make` and keep what it returns."""
        if key in self:
            self.move_to_end(key)
            return self[key]
        value = self.setdefault(key, make())
        while len(self) > KEPT:
            self.popitem(last=False)
        return value
