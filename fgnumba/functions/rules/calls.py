"""Writes the tangent of a call by the function's rule, for one tangent or for several."""

from functools import cache
from typing import Any

from numba import njit
from numba.core import ir, types

from fgnumba.errors import DifferentiationError
from fgnumba.functions.auxiliary import INNER
from fgnumba.functions.registry import RULES, Rule
from fgnumba.functions.rules.lanes import begun, count_of, pick, placed


def tangent_of_call(
    transformation: Any,
    function: Any,
    values: list[ir.Var],
    values_by_name: dict[str, ir.Var],
    operands: list[Any],
    operands_by_name: dict[str, Any],
    target: ir.Var,
) -> ir.Var:
    """Write the tangent of a call and return its variable.

    Parameters
    ----------
    transformation : Transformation
        The function that is being written.
    function : callable
        The function that is called; it has a rule.
    values, values_by_name
        The call's arguments in the new function.
    operands, operands_by_name
        The same in the original function.
    target : Var
        The variable of the original function that takes the value.
    """
    rule, writer = RULES[function], transformation.writer
    arguments = _bound(rule, function, values, values_by_name, writer.loc)
    originals = _bound(rule, function, operands, operands_by_name, writer.loc)
    for name, original in originals.items():
        fixed = name not in rule.differentiated and name not in rule.shapes
        if fixed and transformation.active(original):
            raise DifferentiationError(
                f"{transformation.activity.function.__qualname__}: argument {name!r} of {function.__name__} must not "
                f"depend on what is differentiated ({writer.loc.filename}:{writer.loc.line})"
            )
    if rule.kind == "identity":
        return transformation.tangent(originals[rule.differentiated[0]])
    if rule.kind == "same" or (rule.kind == "linear" and transformation.vectors is None):
        moved = [
            transformation.tangent(originals[name]) if name in rule.differentiated else value
            for name, value in arguments.items()
        ]
        return writer.call(function, *moved)
    given = [
        value if isinstance(value, ir.Var) else writer.constant(value)
        for value in (arguments.get(name, default) for name, default in _with_defaults(rule))
    ]
    tangents = [
        transformation.optional(originals.get(name)) or writer.constant(None) for name in rule.differentiated
    ]
    tangent = _linear(function, rule) if rule.kind == "linear" else _formula(rule)
    y = transformation.primal(target)
    if transformation.vectors is None:
        return writer.call(tangent, y, *given, *tangents)
    mask = tuple(transformation.active(originals.get(name)) for name in rule.differentiated)
    kind = transformation.kind(target)
    dtype = kind.dtype if isinstance(kind, types.Array) else kind
    zero = writer.zero(y, dtype)
    twice = None
    if transformation.vectors.collapsed and rule.kind != "linear":
        twice = transformation.tangent_dispatcher(tangent)
    differentiated = tuple(
        rule.differentiated.index(name) if name in rule.differentiated else -1 for name in rule.arguments
    )
    lanes = _lane_by_lane(tangent, twice, differentiated, mask)
    return writer.call(lanes, zero, y, *given, *tangents)


def _with_defaults(rule: Rule) -> list[tuple[str, Any]]:
    required = len(rule.arguments) - len(rule.defaults)
    return list(zip(rule.arguments, (None,) * required + rule.defaults, strict=True))


def _bound(
    rule: Rule, function: Any, positional: list[Any], named: dict[str, Any], loc: ir.Loc
) -> dict[str, Any]:
    """Return the arguments of a call by name, in the function's order."""
    unknown = [name for name in named if name not in rule.arguments]
    if unknown or len(positional) > len(rule.arguments):
        which = unknown[0] if unknown else rule.arguments[-1]
        raise DifferentiationError(
            f"{function.__name__}: an argument {'named ' if unknown else 'after '}{which!r} has no derivative rule "
            f"({loc.filename}:{loc.line})"
        )
    found = {**dict(zip(rule.arguments, positional, strict=False)), **named}
    return {name: found[name] for name in rule.arguments if name in found}


@cache
def _formula(rule: Rule) -> Any:
    return njit(error_model="numpy", **INNER)(rule.tangent)


@cache
def _linear(function: Any, rule: Rule) -> Any:
    """Return the tangent of a linear function: the function of its arguments' tangents."""
    names = list(rule.arguments)
    tangents = [f"d_{name}" for name in rule.differentiated]
    inner = [f"d_{name}" if name in rule.differentiated else name for name in names]
    space = {"function": function}
    exec(  # noqa: S102
        f"def tangent(y, {', '.join((*names, *tangents))}):\n    return function({', '.join(inner)})\n", space
    )
    return njit(**INNER)(space["tangent"])


@cache
def _lane_by_lane(tangent: Any, twice: Any, differentiated: tuple[int, ...], mask: tuple[bool, ...]) -> Any:
    """Return the Numba function that computes several tangents one after another.

    With `twice`, the tangent of `tangent`, lane 0 is a sum of second derivatives: those of the function itself, along
    the directions of the other lanes, are added to it.
    """
    arguments = [f"a{index}" for index in range(len(differentiated))]
    tangents = [f"d{index}" for index in range(len(mask))]
    chosen = [f"pick({name}, lane)" if on else name for name, on in zip(tangents, mask, strict=True)]
    first = [text.replace("lane)", "0)") for text in chosen]
    lines = [
        f"def lanes(zero, {', '.join(('y', *arguments, *tangents))}):",
        f"    one = tangent({', '.join(('y', *arguments, *first))})",
        "    result = placed(begun(one, zero), 0, one)",
        "    for lane in range(1, count_of(zero)):",
        f"        change = tangent({', '.join(('y', *arguments, *chosen))})",
        "        result = placed(result, lane, change)",
    ]
    if twice is not None:
        inner = [chosen[index] if index >= 0 and mask[index] else "None" for index in differentiated]
        call = ", ".join(("y", *arguments, *chosen, "change", *inner, *("None" for _ in tangents)))
        lines += [
            f"        _, second = twice({call})",
            "        one = one + second",
            "    result = placed(result, 0, one)",
        ]
    space = {
        "tangent": tangent,
        "twice": twice,
        "pick": pick,
        "placed": placed,
        "begun": begun,
        "count_of": count_of,
    }
    exec("\n".join([*lines, "    return result"]) + "\n", space)  # noqa: S102
    return njit(**INNER)(space["lanes"])
