"""Attributes that a class of one's own adds to an object: what a copy has beside what the object is made from."""

from collections.abc import Collection, Iterator
from typing import Any


def own_attributes(owner: object, known: Collection[str]) -> dict[str, Any]:
    """Return the attributes of an object but for those that are `known`, those in slots among them."""
    found = {name: getattr(owner, name) for name in _slots(type(owner)) if hasattr(owner, name)}
    found |= getattr(owner, "__dict__", {})
    return {name: value for name, value in found.items() if name not in known}


def take_attributes(owner: object, attributes: dict[str, Any]) -> None:
    """Give an object what :func:`own_attributes` returned of another."""
    for name, value in attributes.items():
        object.__setattr__(owner, name, value)


def _slots(kind: type) -> Iterator[str]:
    for one in kind.__mro__:
        slots = vars(one).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                # Private names are mangled.
                private = name.startswith("__") and not name.endswith("__")
                yield f"_{one.__name__.lstrip('_')}{name}" if private else name
