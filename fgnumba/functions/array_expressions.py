"""Array expressions with their tangents: one loop over the elements computes both.

An array expression is a scalar function of its operands' elements. That function's tangent is written as any other's,
and the loop calls it, so that nothing between operand and result goes to memory, and what value and tangent have in
common is computed once.
"""

import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit, prange
from numba.core import ir, types
from numba.np.numpy_support import as_dtype

from fgnumba.functions.auxiliary import INNER
from fgnumba.functions.carriers import carries
from fgnumba.functions.generated import generated
from fgnumba.functions.zeros import empty_beside

_SIGNS = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.pow: "**",
    operator.mod: "%",
    operator.floordiv: "//",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
    operator.and_: "&",
    operator.or_: "|",
    operator.xor: "^",
    operator.lshift: "<<",
    operator.rshift: ">>",
}
_UNARY = {operator.neg: "-", operator.pos: "+", operator.invert: "~"}
_PLAIN_OPERATORS = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.ipow: operator.pow,
    operator.imod: operator.mod,
    operator.ifloordiv: operator.floordiv,
}


def _source(tree: Any, leaves: list[ir.Var], functions: list[Any]) -> str:
    """Return an array expression as the source of a scalar one; `leaves` and `functions` are filled."""
    if isinstance(tree, ir.Var):
        names = [leaf.name for leaf in leaves]
        if tree.name not in names:
            leaves.append(tree)
            names.append(tree.name)
        return f"x{names.index(tree.name)}"
    if isinstance(tree, ir.Const):
        return repr(tree.value)
    function, operands = tree
    parts = [_source(operand, leaves, functions) for operand in operands]
    if function in _SIGNS and len(parts) == 2:
        return f"({parts[0]} {_SIGNS[function]} {parts[1]})"
    if function in _UNARY:
        return f"({_UNARY[function]}{parts[0]})"
    if function not in functions:
        functions.append(function)
    return f"f{functions.index(function)}({', '.join(parts)})"


def write_array_expression(
    transformation: Any, tree: Any, kind: types.Array, active: bool
) -> tuple[ir.Var, Any]:
    """Write an array expression and return the variables of the array and, if `active`, of its tangents.

    Arrays are made where the expression stands, and one loop fills them. A function that returned them would count
    their references, which costs more than an expression of a few numbers.
    """
    leaves: list[ir.Var] = []
    functions: list[Any] = []
    source = _source(tree, leaves, functions)
    writer = transformation.writer
    dimensions = tuple(_dimensions(transformation.kind(leaf)) for leaf in leaves)
    scalar = _scalar_function(source, len(leaves), tuple(functions))
    function = transformation.tangent_dispatcher(scalar) if active else scalar
    mask = tuple(active and transformation.active(leaf) for leaf in leaves)
    values = [transformation.primal(leaf) for leaf in leaves]
    turned = kind.layout == "F"
    shape = writer.call(_shape(dimensions, kind.ndim, turned), *values)
    y = writer.call(np.empty, shape, writer.assign(ir.Global("dtype", as_dtype(kind.dtype).type, writer.loc)))
    if turned:
        y = writer.assign(ir.Expr.getattr(y, "T", writer.loc))
    loop = _loop(function, dimensions, mask, kind.ndim, active, transformation.parallel)
    if not active:
        writer.call(loop, y, *values)
        return y, None
    zero = writer.zero(values[0], kind.dtype if carries(kind) else types.float64)
    dy = writer.call(empty_beside, y, zero)
    tangents = [
        transformation.own(leaf) if on else writer.constant(None)
        for leaf, on in zip(leaves, mask, strict=True)
    ]
    writer.call(loop, y, *values, dy, *tangents)
    return y, dy


def in_place_kernel(transformation: Any, value: ir.Expr) -> tuple[Any, ir.Var]:
    """Return the loop of ``x op= y`` for an array x, and the tangent of y, None if it carries none."""
    scalar = _scalar_function(f"(x0 {_SIGNS[_PLAIN_OPERATORS[value.fn]]} x1)", 2, ())
    function = transformation.tangent_dispatcher(scalar)
    kind = transformation.kind(value.lhs)
    active = transformation.active(value.rhs)
    right = _dimensions(transformation.kind(value.rhs))
    kernel = _loop_in_place(function, kind.ndim, right, active, transformation.parallel)
    own = transformation.own(value.rhs) if active else transformation.writer.constant(None)
    return kernel, own


def _dimensions(kind: types.Type) -> int:
    return kind.ndim if isinstance(kind, types.Array) else -1


@cache
def _scalar_function(source: str, count: int, functions: tuple[Any, ...]) -> Any:
    names = ", ".join(f"x{index}" for index in range(count))
    space = {f"f{index}": function for index, function in enumerate(functions)}
    function = generated("element", [f"def element({names}):", f"    return {source}"], **space)
    return njit(error_model="numpy", **INNER)(function)


def _element(name: str, dimensions: int, result: int, stretch: bool = False) -> str:
    """Return an operand's element where the loops stand: trailing dimensions, as broadcasting has it.

    With `stretch`, an operand's axis of length 1 stays at its only element.
    """
    if dimensions < 0:
        return name
    places = range(result - dimensions, result)
    if stretch:
        indices = ", ".join(f"i{axis} * {name}_{axis}" for axis in places)
    else:
        indices = ", ".join(f"i{axis}" for axis in places)
    return f"{name}[{indices}]" if indices else f"{name}[()]"


def _shape_lines(names: list[str], dimensions: tuple[int, ...], result: int) -> list[str]:
    """Return the lines that find the common shape, and refuse shapes that do not fit."""
    lines = []
    for axis in range(result):
        lengths = [
            f"{name}.shape[{axis - result + count}]"
            for name, count in zip(names, dimensions, strict=True)
            if count > 0 and axis >= result - count
        ]
        lines.append(f"    n{axis} = {lengths[0]}")
        for length in lengths[1:]:
            lines.append(f"    if n{axis} == 1:")
            lines.append(f"        n{axis} = {length}")
            lines.append(f"    elif {length} != 1 and {length} != n{axis}:")
            lines.append(
                "        raise ValueError('operands of an array expression have shapes that do not fit')"
            )
    return lines


def _stretch_lines(names: list[str], dimensions: tuple[int, ...], result: int) -> list[str]:
    """Return the lines that find which operands are stretched, and along which axes."""
    lines, tests = [], []
    for name, count in zip(names, dimensions, strict=True):
        for axis in range(result - max(count, 0), result):
            lines.append(f"    {name}_{axis} = 1 if {name}.shape[{axis - result + count}] == n{axis} else 0")
            tests.append(f"{name}_{axis}")
    return [*lines, f"    full = {' and '.join(f'{test} == 1' for test in tests) or 'True'}"]


def _loops(result: int, parallel: bool, depth: int, body: str) -> list[str]:
    """Return nested loops over all elements around a line."""
    lines, indent = [], "    " * depth
    for axis in range(result):
        lines.append(f"{indent}for i{axis} in {'prange' if parallel and axis == 0 else 'range'}(n{axis}):")
        indent += "    "
    return [*lines, indent + body]


@cache
def _shape(dimensions: tuple[int, ...], result: int, turned: bool) -> Any:
    """Return the Numba function of an expression's operands whose value is its shape, or that of its transpose."""
    names = [f"x{index}" for index in range(len(dimensions))]
    axes = reversed(range(result)) if turned else range(result)
    shape = "".join(f"n{axis}, " for axis in axes)
    lines = [
        f"def shape({', '.join(names)}):",
        *_shape_lines(names, dimensions, result),
        f"    return ({shape})",
    ]
    return njit(**INNER)(generated("shape", lines))


@cache
def _loop(
    function: Any,
    dimensions: tuple[int, ...],
    mask: tuple[bool, ...],
    result: int,
    active: bool,
    parallel: bool,
) -> Any:
    names = [f"x{index}" for index in range(len(dimensions))]
    tangents = ["dy", *(f"d{name}" for name in names)] if active else []
    lines = [f"def loop({', '.join(('y', *names, *tangents))}):"]
    lines += [f"    n{axis} = y.shape[{axis}]" for axis in range(result)]

    def body(stretch: bool) -> str:
        values = [
            _element(name, count, result, stretch) for name, count in zip(names, dimensions, strict=True)
        ]
        here = _element("y", result, result)
        if not active:
            return f"{here} = element({', '.join(values)})"
        for value, on in zip(list(values), mask, strict=True):
            values.append(f"d{value}" if on else "None")
        return f"{here}, {_element('dy', result, result)} = element({', '.join(values)})"

    lines += _choice(names, dimensions, result, parallel, body)
    return _compiled(lines, function, parallel)


def _choice(
    names: list[str], dimensions: tuple[int, ...], result: int, parallel: bool, body: Callable[[bool], str]
) -> list[str]:
    """Return the loops: plain ones where all operands have the full shape, others where one is stretched."""
    if sum(count > 0 for count in dimensions) < 2:
        return _loops(result, parallel, 1, body(False))
    return [
        *_stretch_lines(names, dimensions, result),
        *("    if full:", *_loops(result, parallel, 2, body(False))),
        *("    else:", *_loops(result, parallel, 2, body(True))),
    ]


@cache
def _loop_in_place(function: Any, result: int, right: int, active: bool, parallel: bool) -> Any:
    lines = ["def loop(y, x, dy, dx):", *[f"    n{axis} = y.shape[{axis}]" for axis in range(result)]]
    for axis in range(result - max(right, 0), result):
        length = f"x.shape[{axis - result + right}]"
        lines.append(f"    if {length} != 1 and {length} != n{axis}:")
        lines.append("        raise ValueError('the right-hand side does not fit the array that is changed')")

    def body(stretch: bool) -> str:
        here, tangent = _element("y", result, result), _element("dy", result, result)
        other = _element("x", right, result, stretch)
        return f"{here}, {tangent} = element({here}, {other}, {tangent}, {'d' + other if active else 'None'})"

    lines += _choice(["x", "y"], (right, result if right > 0 else -1), result, parallel, body)
    return _compiled(lines, function, parallel)


def _compiled(lines: list[str], function: Any, parallel: bool) -> Any:
    loop = generated("loop", lines, element=function, prange=prange)
    return njit(parallel=parallel, error_model="numpy", **INNER)(loop)
