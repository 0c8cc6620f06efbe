"""The few things that were asked for last: what is bound to a batch size takes memory, and sizes may be many."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

KEPT = 8
"""How many plans a model, and a trainer, keep: those that were used last."""


class Recent(OrderedDict[K, V]):
    """A dictionary of the :data:`KEPT` values that were asked for last."""

    def of(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of `key`, made where it is not there."""
        if key in self:
            self.move_to_end(key)
            return self[key]
        found = self.setdefault(key, make())
        while len(self) > KEPT:
            self.popitem(last=False)
        return found
