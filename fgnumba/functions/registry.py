"""Rules for functions of arrays, tuples and iterators: what a call of each does to tangents.

A function that has no rule is refused if an argument carries a tangent. Scalar functions and array expressions need no
rule here: :mod:`fgnumba.functions.partials` is their table.
"""

import ast
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
        ``composed``: `tangent` computes the value from functions that have rules, and is differentiated.
    views : bool
        Whether the value may be a view of an argument, so that writing to one writes to the other.
    tangent : callable or None
        Takes the Numba types of its arguments, as a function under ``numba.extending.overload`` does, and returns the
        Python function that Numba compiles. Arguments of a formula: ``(y, *arguments, *tangents, zero)``, where y is
        the value, a tangent is None where an argument carries none, and zero is the zero tangent of one number.
        Arguments of a composition: ``arguments``.
    several : bool
        Whether a formula takes vectors of several tangents, too; otherwise it is called for one after another.
    curved : bool
        Whether the function has second derivatives in the arguments that may carry a tangent.
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
    several: bool = False
    curved: bool = True
    arguments: tuple[str, ...] = ()
    defaults: tuple[Any, ...] = ()
    differentiated: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()


RULES: dict[Any, Rule] = {}
REAL_ONLY: set[Any] = set()
"""Functions with a rule that is right for real numbers alone; others are refused."""
METHODS: dict[Any, Any] = {}
"""Functions that methods of arrays stand for, by the method's name."""


def real_only(*functions: Any) -> None:
    """Note functions whose rule is for real numbers: those of complex ones conjugate some of them."""
    REAL_ONLY.update(functions)


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
    RULES[function] = _parsed("same", signature, views=views)


def identity(function: Any, signature: str) -> None:
    """Note a function whose tangent is that of the one argument marked by ``*``."""
    RULES[function] = _parsed("identity", signature)


def linear(function: Any, signature: str) -> None:
    """Note a function that is linear in each argument marked by ``*``, if the others are constant, as a sum is."""
    RULES[function] = _parsed("linear", signature)


Note = Callable[[Callable[..., Any]], Any]


def formula_by_types(function: Any, signature: str, several: bool = False, curved: bool = True) -> Note:
    """Note the function under the decorator as the one that chooses the tangent of `function`; see :class:`Rule`."""

    def note(tangent: Callable[..., Any]) -> Callable[..., Any]:
        RULES[function] = _parsed("formula", signature, tangent=tangent, several=several, curved=curved)
        return tangent

    return note


def formula(function: Any, signature: str, several: bool = False, curved: bool = True) -> Note:
    """Note the function under the decorator as the tangent of `function`, for all types."""

    def note(tangent: Callable[..., Any]) -> Callable[..., Any]:
        formula_by_types(function, signature, several, curved)(lambda *kinds: tangent)
        return tangent

    return note


def composition_by_types(function: Any, signature: str) -> Note:
    """Note the function under the decorator as the one that chooses what computes `function`; see :class:`Rule`."""

    def note(value: Callable[..., Any]) -> Callable[..., Any]:
        RULES[function] = _parsed("composed", signature, tangent=value)
        return value

    return note


def composition(function: Any, signature: str) -> Note:
    """Note the function under the decorator as one that computes `function` from functions that have rules."""

    def note(value: Callable[..., Any]) -> Callable[..., Any]:
        composition_by_types(function, signature)(lambda *kinds: value)
        return value

    return note


def _parsed(kind: str, text: str, **members: Any) -> Rule:
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
            defaults.append(ast.literal_eval(default))
    return Rule(
        kind,
        arguments=tuple(arguments),
        defaults=tuple(defaults),
        differentiated=tuple(differentiated),
        shapes=tuple(shapes),
        **members,
    )
