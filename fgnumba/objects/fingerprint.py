"""Fingerprints: a hashable value that stands for the class of an object and everything that it holds.

The plan that is bound for a loss is kept under the loss's fingerprint, not under its class: two losses of one class may
differ in a number, and the number may change.
"""

import hashlib
from collections.abc import Hashable
from typing import Any

import numpy as np

from fgnumba.objects.attributes import own_attributes

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class _Same:
    """A stand-in for one object, equal only to a stand-in for the same object, which it keeps alive."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._value is self._value

    def __hash__(self) -> int:
        return id(self._value)

    def __repr__(self) -> str:
        name = getattr(self._value, "__qualname__", "")
        return f"<one {type(self._value).__name__} {name}>"


def fingerprint(value: object) -> Hashable:
    """Return a hashable value that is equal for two objects if they have the same class and hold the same.

    Numbers, text, arrays and collections of them are compared by their values, and other objects by what a copy of them
    would be made of. Functions, and objects that cannot be copied, equal only themselves.
    """
    return _of(value, ())


def statement(value: object, key: Hashable) -> str:
    """Return the name of an object's class, followed by a digest of its `key` if the object has attributes."""
    name = type(value).__name__
    return (
        f"{name} {hashlib.sha256(repr(key).encode()).hexdigest()[:16]}" if own_attributes(value, ()) else name
    )


def _of(value: Any, above: tuple[int, ...]) -> Any:
    if isinstance(value, _PLAIN):
        # In Python 1, 1.0 and True are equal, as are 0.0 and -0.0, and NaN does not equal itself; here, the reverse.
        return type(value), repr(value)
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        array = np.asarray(value)
        return type(value), array.shape, array.dtype.str, array.tobytes()
    if id(value) in above:
        return _Same(value)
    above = (*above, id(value))
    if isinstance(value, (list, tuple)):
        return type(value), *(_of(item, above) for item in value)
    if isinstance(value, (set, frozenset)):
        # The order of a set differs between processes, so it is sorted.
        return type(value), *sorted((_of(item, above) for item in value), key=repr)
    if isinstance(value, dict):
        return type(value), *((_of(name, above), _of(item, above)) for name, item in value.items())
    try:
        # This is what a copy would be made of: a function, its arguments, and the state.
        make, arguments, *state = value.__reduce_ex__(4)
    except Exception:
        return _Same(value)
    parts = [list(part) if hasattr(part, "__next__") else part for part in (arguments, *state)]
    return type(value), _Same(make), *(_of(part, above) for part in parts if part is not None)
