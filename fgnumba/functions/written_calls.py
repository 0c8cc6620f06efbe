"""Tangents of calls: of functions under ``@njit``, of what has a rule, and of scalar functions."""

import operator
from typing import Any

from numba.core import ir, types

from fgnumba.functions.called import arguments_of, bound, function_called
from fgnumba.functions.names import NAMES
from fgnumba.functions.registry import RULES
from fgnumba.functions.rules import tangent_of_call
from fgnumba.functions.scalars import write_scalar
from fgnumba.functions.zero_derivatives import is_zero


def write_call(transformation: Any, target: ir.Var, value: ir.Expr) -> bool:
    """Write a call that needs more than its own copy; return whether it did."""
    function, owner = function_called(transformation.activity, value)
    if isinstance(transformation.activity.typed.typemap[value.func.name], types.Dispatcher):
        return _call_of_function(transformation, target, value)
    if not transformation.active(target):
        return False
    positional, named = arguments_of(value, owner)
    if not any(transformation.active(one) for one in (*positional, *named.values())):
        return False
    transformation.writer.assign(transformation.copied_expression(value), transformation.primal(target))
    if is_zero(function, transformation.kind(target), RULES.get(function)):
        tangent = transformation.writer.zero(transformation.primal(target), transformation.kind(target))
    elif owner is not None and function in RULES and RULES[function].kind == "same":
        tangent = _same_method(transformation, owner, value)
    else:
        tangent = _tangent_of_known(transformation, function, target, positional, named)
    transformation.writer.assign(tangent, transformation.own(target))
    return True


def _same_method(transformation: Any, owner: ir.Var, value: ir.Expr) -> ir.Var:
    """Write the call of the same method of the tangents; its arguments are counts and sizes."""
    if any(transformation.active(operand) for operand in (*value.args, *dict(value.kws).values())):
        transformation.activity.refuse(
            "a method with arguments that carry a tangent", transformation.writer.loc
        )
    name = transformation.activity.definition(value.func).attr
    method = transformation.writer.assign(
        ir.Expr.getattr(transformation.own(owner), name, transformation.writer.loc)
    )
    arguments = [transformation.primal(one) for one in value.args]
    named = [(key, transformation.primal(one)) for key, one in value.kws]
    return transformation.writer.assign(ir.Expr.call(method, arguments, named, transformation.writer.loc))


def _tangent_of_known(
    transformation: Any, function: Any, target: ir.Var, positional: list[Any], named: Any
) -> Any:
    """Return the tangent of a call of a function that Numba or NumPy provides."""
    kind = transformation.kind(target)
    values = [transformation.primal(one) for one in positional]
    if function in RULES:
        by_name = {name: transformation.primal(one) for name, one in named.items()}
        return tangent_of_call(transformation, function, values, by_name, positional, named, target)
    if isinstance(function, types.NamedTupleClass):
        fields = function.instance_class._fields
        by_field = {**dict(zip(fields, positional, strict=False)), **named}
        return transformation.writer.members(*[transformation.tangent(by_field[field]) for field in fields])
    if function is tuple:
        return transformation.own(positional[0])
    if isinstance(function, types.NumberClass) or function in (float, complex):
        return _converted(transformation, positional[0], kind)
    name = NAMES[function]
    if name in ("maximum", "minimum") and len(positional) > 2:
        return _extreme_of_several(transformation, function, positional, kind)
    exponent = transformation.constants.get(positional[-1].name) if name == "power" else None
    tangents = [transformation.optional(one) for one in positional]
    return write_scalar(
        transformation.writer, name, values, tangents, transformation.primal(target), kind, exponent
    )


def _converted(transformation: Any, source: ir.Var, kind: types.Type) -> ir.Var:
    """Write the conversion of a tangent to another type of number."""
    if transformation.vectors is None:
        return transformation.writer.call(kind, transformation.own(source))
    # A product with 1 of the wider type widens; narrowing happens where the tangent is stored.
    return transformation.writer.binary(
        operator.mul, transformation.own(source), transformation.writer.number(1.0, kind)
    )


def _extreme_of_several(transformation: Any, function: Any, operands: list[Any], kind: types.Type) -> ir.Var:
    """Write max(a, b, c, …) as a chain of two."""
    value, tangent = transformation.primal(operands[0]), transformation.optional(operands[0])
    for operand in operands[1:]:
        both = [value, transformation.primal(operand)]
        value = transformation.writer.call(function, *both)
        if tangent is not None or transformation.active(operand):
            tangent = write_scalar(
                transformation.writer,
                NAMES[function],
                both,
                [tangent, transformation.optional(operand)],
                value,
                kind,
            )
    assert tangent is not None
    return tangent


def _call_of_function(transformation: Any, target: ir.Var, value: ir.Expr) -> bool:
    """Write the call of another compiled function as the call of its tangent."""
    dispatcher = transformation.activity.typed.typemap[value.func.name].dispatcher
    if value.vararg is not None:
        return False
    operands = bound(dispatcher, *arguments_of(value, None))
    if not any(transformation.active(one) for one in operands):
        return False
    writer = transformation.writer
    arguments = [
        transformation.primal(one) if isinstance(one, ir.Var) else writer.constant(one) for one in operands
    ]
    tangents = [
        transformation.own(one) if transformation.active(one) else writer.constant(None) for one in operands
    ]
    pair = writer.call(transformation.tangent_dispatcher(dispatcher), *arguments, *tangents)
    writer.assign(writer.item(pair, 0), transformation.primal(target))
    if transformation.active(target):
        writer.assign(writer.item(pair, 1), transformation.own(target))
    return True
