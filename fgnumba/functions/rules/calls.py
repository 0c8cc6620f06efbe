"""Writes the tangent of a call by the function's rule, for one tangent or for several."""

from functools import cache
from typing import Any

import numpy as np
from numba import njit, typeof
from numba.core import ir, types

from fgnumba.errors import DifferentiationError
from fgnumba.functions.auxiliary import INNER
from fgnumba.functions.carriers import carries, tangent_type
from fgnumba.functions.generated import generated
from fgnumba.functions.memory import SHARING
from fgnumba.functions.registry import RULES, Rule
from fgnumba.functions.rules.lanes import added, begun, count_of, pick, placed
from fgnumba.functions.rules.orders import in_order_of


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
    call = _Call(transformation, function, values, values_by_name, operands, operands_by_name, target)
    call.check()
    if call.rule.kind == "identity":
        return transformation.tangent(call.originals[call.rule.differentiated[0]])
    if call.rule.kind == "same" or (call.rule.kind == "linear" and transformation.vectors is None):
        return call.of_tangents()
    tangent = call.composed() if call.rule.kind == "composed" else call.formula()
    return tangent if function in SHARING else call.ordered(tangent)


class _Call:
    def __init__(
        self,
        transformation: Any,
        function: Any,
        values: list[ir.Var],
        values_by_name: dict[str, ir.Var],
        operands: list[Any],
        operands_by_name: dict[str, Any],
        target: ir.Var,
    ) -> None:
        self.transformation, self.writer = transformation, transformation.writer
        self.function, self.rule, self.target = function, RULES[function], target
        self.values = self._bound(values, values_by_name)
        self.originals = self._bound(operands, operands_by_name)

    def _bound(self, positional: list[Any], named: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of the call by name, in the function's order."""
        names = self.rule.arguments
        unknown = [name for name in named if name not in names]
        if unknown:
            self._refuse(f"argument {unknown[0]!r} of {self.function.__name__}")
        if len(positional) > len(names):
            self._refuse(f"an argument of {self.function.__name__} after {names[-1]!r}")
        found = {**dict(zip(names, positional, strict=False)), **named}
        return {name: found[name] for name in names if name in found}

    def _refuse(self, what: str, why: str = "has no derivative rule") -> None:
        name, loc = self.transformation.activity.function.__qualname__, self.writer.loc
        raise DifferentiationError(f"{name}: {what} {why} ({loc.filename}:{loc.line})")

    def check(self) -> None:
        """Refuse arguments that carry a tangent where the rule knows none."""
        for name, original in self.originals.items():
            free = name in self.rule.differentiated or name in self.rule.shapes
            if not free and self.transformation.active(original):
                what = f"argument {name!r} of {self.function.__name__}"
                self._refuse(what, "must not depend on what is differentiated")

    def of_tangents(self) -> ir.Var:
        """Write the call of the same function of the tangents."""
        positional: list[ir.Var] = []
        named: list[tuple[str, ir.Var]] = []
        for name in self.rule.arguments:
            if name not in self.values:
                continue
            value = self.values[name]
            if name in self.rule.differentiated:
                value = self._moved(name)
            if len(positional) == self.rule.arguments.index(name):
                positional.append(value)
            else:
                named.append((name, value))
        return self.writer.call(self.function, *positional, named=named)

    def _moved(self, name: str) -> ir.Var:
        """Return the tangent of an argument, with zeros for what carries none."""
        kind = self._kind(name)
        if carries(kind):
            return self.transformation.tangent(self.originals[name])
        if isinstance(kind, types.Number):
            return self.writer.number(0.0, types.float64)
        if isinstance(kind, types.Array):
            return self.writer.call(np.zeros_like, self.values[name])
        return self.values[name]

    def composed(self) -> ir.Var:
        """Write the call of the tangent of a function that computes the same."""
        kinds, given = self._given()
        function = _compiled(self.rule, kinds)
        if function is None:
            self._refuse(f"{self.function.__name__} with arguments of these types")
        pair = self.writer.call(
            self.transformation.tangent_dispatcher(function), *given, *self._tangents(self.rule.arguments)
        )
        return self.writer.item(pair, 1)

    def formula(self) -> ir.Var:
        """Write the call of the formula."""
        transformation, rule = self.transformation, self.rule
        (kinds, given), tangents = self._given(), self._tangents(rule.differentiated)
        y, kind = transformation.primal(self.target), transformation.kind(self.target)
        element = _element(kind)
        zero = self.writer.zero(y, element)
        # Second derivatives along the lanes' directions are taken from one lane after another.
        collapsed = transformation.vectors is not None and transformation.vectors.collapsed and rule.curved
        several = rule.several and not collapsed
        vectors = transformation.vectors if several else None
        masked = [self._active(name) for name in rule.differentiated]
        tangent_kinds = [
            tangent_type(self._kind(name), vectors) if active else types.none
            for name, active in zip(rule.differentiated, masked, strict=True)
        ]
        if rule.kind == "linear":
            tangents = [
                self._moved(name) if name in self.values else self.writer.constant(None)
                for name in rule.differentiated
            ]
            masked = [name in self.values and carries(self._kind(name)) for name in rule.differentiated]
            tangent = _linear(self.function, rule, tuple(self.values))
        else:
            tangent = _compiled(rule, (kind, *kinds, *tangent_kinds, tangent_type(element, vectors)))
        if tangent is None:
            self._refuse(f"{self.function.__name__} with arguments of these types")
        if transformation.vectors is None or several:
            return self.writer.call(tangent, y, *given, *tangents, zero)
        single = self.writer.number(0.0, element)
        twice = transformation.tangent_dispatcher(tangent) if collapsed and rule.kind != "linear" else None
        places = tuple(
            rule.differentiated.index(name) if name in rule.differentiated else -1 for name in rule.arguments
        )
        lanes = _lane_by_lane(tangent, twice, places, tuple(masked))
        return self.writer.call(lanes, zero, y, *given, *tangents, single)

    def ordered(self, tangent: ir.Var) -> ir.Var:
        """Write the tangent in the order of the value's elements, if both are arrays."""
        y, kind = self.transformation.primal(self.target), self.transformation.kind(self.target)
        if not isinstance(kind, (types.Array, types.BaseTuple)):
            return tangent
        return self.writer.call(in_order_of, y, tangent, self.writer.zero(y, _element(kind)))

    def _with_defaults(self) -> list[tuple[str, Any]]:
        rule = self.rule
        required = len(rule.arguments) - len(rule.defaults)
        return list(zip(rule.arguments, (None,) * required + rule.defaults, strict=True))

    def _given(self) -> tuple[tuple[types.Type, ...], list[ir.Var]]:
        """Return types and variables of all arguments, defaults among them."""
        kinds, given = [], []
        for name, default in self._with_defaults():
            if name in self.values:
                kinds.append(self._kind(name))
                given.append(self.values[name])
            else:
                kinds.append(_kind_of_default(default))
                given.append(self.writer.constant(default))
        return tuple(kinds), given

    def _kind(self, name: str) -> types.Type:
        kind: types.Type = self.transformation.kind(self.originals[name])
        return kind

    def _active(self, name: str) -> bool:
        return name in self.originals and bool(self.transformation.active(self.originals[name]))

    def _tangents(self, names: tuple[str, ...]) -> list[ir.Var]:
        """Return a tangent for each of some arguments, None where it carries none."""
        return [
            self.transformation.own(self.originals[name])
            if self._active(name)
            else self.writer.constant(None)
            for name in names
        ]


def _kind_of_default(value: Any) -> types.Type:
    kind: types.Type = types.literal(value) if isinstance(value, (bool, int, str)) else typeof(value)
    return kind


def _element(kind: types.Type) -> types.Type:
    """Return the type of the numbers in a value, of the first in a tuple."""
    if isinstance(kind, (types.Array, types.List)):
        return _element(kind.dtype)
    if isinstance(kind, types.BaseTuple):
        return next(_element(member) for member in kind.types if carries(member))
    return types.unliteral(kind)


@cache
def _compiled(rule: Rule, kinds: tuple[types.Type, ...]) -> Any:
    """Return the Numba function that a rule has for these types of arguments."""
    assert rule.tangent is not None
    python = rule.tangent(*kinds)
    return None if python is None else jitted(python)


@cache
def jitted(python: Any) -> Any:
    """Return a Python function as one for Numba, for code that Numba compiles."""
    return njit(error_model="numpy", **INNER)(python)


@cache
def _linear(function: Any, rule: Rule, names: tuple[str, ...]) -> Any:
    """Return the tangent of a linear function: the function of its arguments' tangents."""
    tangents = [f"d_{name}" for name in rule.differentiated]
    inner = []
    for index, name in enumerate(names):
        value = f"d_{name}" if name in rule.differentiated else name
        inner.append(value if rule.arguments[index] == name else f"{name}={value}")
    lines = [
        f"def tangent(_y, {', '.join((*rule.arguments, *tangents))}, _zero):",
        f"    return function({', '.join(inner)})",
    ]
    return njit(**INNER)(generated("tangent", lines, function=function))


@cache
def _lane_by_lane(tangent: Any, twice: Any, places: tuple[int, ...], mask: tuple[bool, ...]) -> Any:
    """Return the Numba function that computes several tangents one after another.

    Parameters
    ----------
    tangent : numba dispatcher
        The tangent of a function, for one tangent of each argument.
    twice : numba dispatcher or None
        The tangent of `tangent`, if lane 0 is a sum of second derivatives: those of the function itself, along the
        directions of the other lanes, are then added to it.
    places : tuple of int
        For each argument, which of the differentiated ones it is; -1 for none of them.
    mask : tuple of bool
        Which of the differentiated arguments carry tangents.
    """
    arguments = [f"a{index}" for index in range(len(places))]
    tangents = [f"d{index}" for index in range(len(mask))]
    chosen = [f"pick({name}, lane)" if on else name for name, on in zip(tangents, mask, strict=True)]
    first = [text.replace("lane)", "0)") for text in chosen]
    lines = [
        f"def lanes(zero, {', '.join(('y', *arguments, *tangents, 'single'))}):",
        f"    one = tangent({', '.join(('y', *arguments, *first, 'single'))})",
        "    result = placed(begun(one, zero), 0, one)",
        "    for lane in range(1, count_of(zero)):",
        f"        change = tangent({', '.join(('y', *arguments, *chosen, 'single'))})",
        "        result = placed(result, lane, change)",
    ]
    if twice is not None:
        inner = [chosen[place] if place >= 0 and mask[place] else "None" for place in places]
        values = ", ".join(("y", *arguments, *chosen, "single"))
        call = ", ".join((values, "change", *inner, *("None" for _ in (*tangents, "single"))))
        lines += [
            f"        _, second = twice({call})",
            "        one = added(one, second)",
            "    result = placed(result, 0, one)",
        ]
    space = {"tangent": tangent, "twice": twice}
    space |= {"pick": pick, "placed": placed, "begun": begun, "count_of": count_of, "added": added}
    return njit(**INNER)(generated("lanes", [*lines, "    return result"], **space))
