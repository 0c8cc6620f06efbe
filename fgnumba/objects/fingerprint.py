"""What an object is, as a value that can be compared: its class and all that it holds.

What is bound for an object is kept by this and not by its class: two losses of one class may differ in a number, and
the number may change.
"""

import hashlib
from collections.abc import Hashable
from typing import Any

import numpy as np

from fgnumba.objects.attributes import own_attributes

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class _Same:
    """Stands for one object and equals nothing else; the object lives as long as it does."""

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
    """Return what equals that of another object if both have one class and hold the same.

    Numbers, text, arrays and collections of them are compared by what they are, and objects by what a copy of them
    would be made of. Functions, and what cannot be copied, stand for themselves.
    """
    return _of(value, ())


def statement(value: object, key: Hashable) -> str:
    """Return the class of an object in words, with a digest of its `key` where it holds anything."""
    name = type(value).__name__
    return (
        f"{name} {hashlib.sha256(repr(key).encode()).hexdigest()[:16]}" if own_attributes(value, ()) else name
    )


def _of(value: Any, above: tuple[int, ...]) -> Any:
    if isinstance(value, _PLAIN):
        # 1, 1.0 and True are equal, NaN is not equal to itself, and 0.0 is to -0.0: none of that is meant.
        return type(value), repr(value)
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        array = np.asarray(value)
        return type(value), array.shape, array.dtype.str, array.tobytes()
    if id(value) in above:
        return _Same(value)
    above = (*above, id(value))
    if isinstance(value, (list, tuple)):
        return type(value), *(_of(one, above) for one in value)
    if isinstance(value, (set, frozenset)):
        # Their order is another one in each process.
        return type(value), *sorted((_of(one, above) for one in value), key=repr)
    if isinstance(value, dict):
        return type(value), *((_of(name, above), _of(one, above)) for name, one in value.items())
    try:
        # What a copy would be made of.
        made, arguments, *state = value.__reduce_ex__(4)
    except Exception:
        return _Same(value)
    parts = [list(one) if hasattr(one, "__next__") else one for one in (arguments, *state)]
    return type(value), _Same(made), *(_of(one, above) for one in parts if one is not None)
