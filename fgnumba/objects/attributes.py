"""Attributes that a user's subclass adds to an object; a copy takes them over beside the constructor's arguments."""

from collections.abc import Collection, Iterator
from typing import Any


def own_attributes(owner: object, known: Collection[str]) -> dict[str, Any]:
    """Return the attributes of an object, including those in slots, except those whose names are `known`."""
    attributes = {name: getattr(owner, name) for name in _slots(type(owner)) if hasattr(owner, name)}
    attributes |= getattr(owner, "__dict__", {})
    return {name: value for name, value in attributes.items() if name not in known}


def take_attributes(owner: object, attributes: dict[str, Any]) -> None:
    """Give an object the attributes that :func:`own_attributes` returned for another."""
    for name, value in attributes.items():
        object.__setattr__(owner, name, value)


def _slots(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                # Python mangles private names: `__x` of class A is the attribute `_A__x`.
                private = name.startswith("__") and not name.endswith("__")
                yield f"_{base.__name__.lstrip('_')}{name}" if private else name
