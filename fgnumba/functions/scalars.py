"""Tangents of scalar functions, as statements: dy = Σ ∂y/∂a · da over the arguments a that carry a tangent."""

import ast
import operator
from typing import Any

from numba.core import ir, types

from fgnumba.functions.auxiliary import CALLABLES, divided, quotient
from fgnumba.functions.curvature import bent, is_linear, slopes
from fgnumba.functions.names import callable_of
from fgnumba.functions.partials import SCALAR_FUNCTIONS, expression
from fgnumba.functions.writer import Writer

_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def write_scalar(
    writer: Writer,
    name: str,
    arguments: list[ir.Var],
    tangents: list[ir.Var | None],
    value: ir.Var,
    kind: types.Type,
    exponent: Any = None,
) -> ir.Var:
    """Write the tangent of a scalar function.

    Parameters
    ----------
    writer : Writer
        Where.
    name : str
        Name of the function in the table of partial derivatives.
    arguments : list of Var
        Its arguments.
    tangents : list of Var or None
        One tangent for each; None for a constant. At least one is a variable.
    value : Var
        Its value.
    kind : numba.types.Type
        Type of the value.
    exponent : number or None
        The exponent of a power, where it is a constant of the program.
    """
    function = SCALAR_FUNCTIONS[name]
    partials = list(function.partials)
    if name == "power" and exponent is not None and tangents[1] is None:
        partials[0] = _slope_of_power(exponent)
    names = {**dict(zip(function.arguments, arguments, strict=True)), "y": value}
    total: ir.Var | None = None
    for partial, tangent in zip(partials, tangents, strict=True):
        if tangent is None or partial == "0":
            continue
        negative = partial == "-1"
        term = tangent
        if partial not in ("1", "-1"):
            term = writer.binary(operator.mul, tangent, _written(writer, expression(partial), names, kind))
        if total is None:
            total = writer.negative(term) if negative else term
        else:
            total = writer.binary(operator.sub if negative else operator.add, total, term)
    if total is None:
        return writer.zero(value, kind)
    if writer.vectors is not None and writer.vectors.collapsed and not is_linear(name):
        return _with_curvature(writer, name, arguments, tangents, value, total)
    return total


def _with_curvature(
    writer: Writer,
    name: str,
    arguments: list[ir.Var],
    tangents: list[ir.Var | None],
    value: ir.Var,
    total: ir.Var,
) -> ir.Var:
    """Write the second derivatives along all lanes' directions, added to lane 0."""
    function = slopes(name)
    first = writer.call(function, *arguments, value)
    twice, none = writer.tangent_dispatcher(function), writer.constant(None)
    active = [index for index, tangent in enumerate(tangents) if tangent is not None]
    for index in active:
        units = [writer.constant(1.0) if other == index else none for other in range(len(arguments))]
        pair = writer.call(twice, *arguments, value, *units, writer.item(first, index))
        second = writer.item(pair, 1)
        for other in active:
            coefficient = writer.item(second, other)
            total = writer.call(bent, total, coefficient, tangents[index], tangents[other])
    return total


def _slope_of_power(exponent: Any) -> str:
    """Return n aⁿ⁻¹ without a general power, which costs more than the value itself."""
    if exponent == 0 and isinstance(exponent, int):
        return "0"
    if exponent == 1:
        return "1"
    if exponent == 2:
        return "2 * a"
    if exponent == 0.5:
        return "0.5 / y"
    if isinstance(exponent, int) and exponent > 0:
        return f"{exponent} * raised(a, {exponent - 1})"
    return f"{float(exponent)!r} * power(a, {float(exponent) - 1.0!r})"


def _written(writer: Writer, node: ast.expr, names: dict[str, ir.Var], kind: types.Type) -> ir.Var:
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, (int, float))
        return writer.number(node.value, kind)
    if isinstance(node, ast.UnaryOp):
        return writer.negative(_written(writer, node.operand, names, kind))
    if isinstance(node, ast.BinOp):
        left, right = _written(writer, node.left, names, kind), _written(writer, node.right, names, kind)
        if isinstance(node.op, ast.Div):
            return _quotient(writer, left, right, kind)
        return writer.binary(_OPERATORS[type(node.op)], left, right)
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    if node.func.id == "raised":
        power = node.args[1]
        assert isinstance(power, ast.Constant)
        return writer.binary(operator.pow, names["a"], writer.constant(power.value))
    arguments = [_written(writer, argument, names, kind) for argument in node.args]
    if node.func.id in CALLABLES:
        result = writer.call(CALLABLES[node.func.id], *arguments)
        return writer.call(kind, result) if kind == types.float32 else result
    return writer.call(callable_of(node.func.id, isinstance(kind, types.Complex)), *arguments)


def _quotient(writer: Writer, left: ir.Var, right: ir.Var, kind: types.Type) -> ir.Var:
    return writer.call(divided if isinstance(kind, types.Complex) else quotient, left, right)
