"""Rules for functions of arrays, tuples and iterators: what a call of each does to tangents.

A function that has no rule is refused if an argument carries a tangent. Scalar functions and array expressions need no
rule here: :mod:`fgnumba.functions.partials` is their table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a call of a function does to tangents.

    Parameters
    ----------
    kind : str
        ``constant``: the derivative is zero wherever there is one, as of rounding and of counting.
        ``same``: the function of the tangents, with the same other arguments, is the tangent; it only moves numbers.
        ``identity``: the tangent of an argument is the tangent.
        ``linear``: the same as ``same``, for one tangent after another; it adds numbers.
        ``formula``: `tangent` computes the tangent.
    views : bool
        Whether the value may be a view of an argument, so that writing to one writes to the other.
    tangent : callable or None
        ``tangent(y, *arguments, *tangents)`` in code that Numba compiles: y is the value, and a tangent is None where
        an argument carries none. Its signature gives names and defaults of the arguments.
    arguments : tuple of str
        Names of the function's arguments, of which those after `required` have the defaults in `defaults`.
    differentiated : tuple of str
        Names of the arguments that may carry a tangent.
    shapes : tuple of str
        Names of arguments of which only shape and structure matter, whatever they carry.
    """

    kind: str
    views: bool = False
    tangent: Callable[..., Any] | None = None
    arguments: tuple[str, ...] = ()
    defaults: tuple[Any, ...] = ()
    differentiated: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()


RULES: dict[Any, Rule] = {}
METHODS: dict[str, Any] = {}
"""Functions that methods of arrays stand for, by the method's name."""


def constant(*functions: Any) -> None:
    """Note functions whose derivative is zero wherever there is one."""
    for function in functions:
        RULES[function] = Rule("constant")


def same(function: Any, signature: str, views: bool = False) -> None:
    """Note a function that only moves numbers from place to place.

    Parameters
    ----------
    function : callable
        The function.
    signature : str
        Its arguments as in a definition; a name with ``*`` before it may carry a tangent, and of one with ``&`` only
        shape and structure matter.
    views : bool
        Whether the value may be a view.
    """
    RULES[function] = _parsed("same", signature, views, None)


def identity(function: Any, signature: str) -> None:
    """Note a function whose tangent is that of the one argument marked by ``*``."""
    RULES[function] = _parsed("identity", signature, False, None)


def linear(function: Any, signature: str) -> None:
    """Note a function that is linear in each argument marked by ``*``, if the others are constant, as a sum is."""
    RULES[function] = _parsed("linear", signature, False, None)


def formula(function: Any, signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Note the function under the decorator as the tangent of `function`."""

    def note(tangent: Callable[..., Any]) -> Callable[..., Any]:
        RULES[function] = _parsed("formula", signature, False, tangent)
        return tangent

    return note


def _parsed(kind: str, text: str, views: bool, tangent: Callable[..., Any] | None) -> Rule:
    arguments, defaults, differentiated, shapes = [], [], [], []
    for part in text.split(","):
        name, _, default = (piece.strip() for piece in part.partition("="))
        if name.startswith("*"):
            name = name[1:]
            differentiated.append(name)
        elif name.startswith("&"):
            name = name[1:]
            shapes.append(name)
        arguments.append(name)
        if default:
            defaults.append({"None": None, "True": True, "False": False}.get(default, default))
            if isinstance(defaults[-1], str):
                defaults[-1] = float(default) if "." in default else int(default)
    return Rule(kind, views, tangent, tuple(arguments), tuple(defaults), tuple(differentiated), tuple(shapes))
