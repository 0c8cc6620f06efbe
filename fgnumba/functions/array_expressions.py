"""Array expressions with their tangents: one loop over the elements computes both.

An array expression is a scalar function of its operands' elements. That function's tangent is written as any other's,
and the loop calls it, so that nothing between operand and result goes to memory, and what value and tangent have in
common is computed once.
"""

import operator
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numba.core import ir, types
from numba.np.numpy_support import as_dtype

from fgnumba.functions.carriers import carries
from fgnumba.functions.zeros import zeros_beside

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


def kernel_of(
    transformation: Any, tree: Any, kind: types.Array, active: bool
) -> tuple[Any, list[ir.Var], list[ir.Var]]:
    """Return the loop of an array expression, its operands, and their tangents.

    The loop is a Numba function ``loop(*operands, *tangents)``; its value is the array or, if `active`, the pair of the
    array and its tangents. A tangent is None where an operand carries none.
    """
    leaves: list[ir.Var] = []
    functions: list[Any] = []
    source = _source(tree, leaves, functions)
    dimensions = tuple(_dimensions(transformation.kind(leaf)) for leaf in leaves)
    scalar = _scalar_function(source, len(leaves), tuple(functions))
    function = transformation.tangent_dispatcher(scalar) if active else scalar
    mask = tuple(active and transformation.active(leaf) for leaf in leaves)
    kernel = _loop(function, dimensions, mask, kind.ndim, as_dtype(kind.dtype), active, transformation.parallel)
    writer = transformation.writer
    if not active:
        return kernel, leaves, []
    tangents = [transformation.own(leaf) if on else writer.constant(None) for leaf, on in zip(leaves, mask, strict=True)]
    dtype = kind.dtype if carries(kind) else types.float64
    return kernel, leaves, [*tangents, writer.zero(leaves[0], dtype)]


def in_place_kernel(transformation: Any, value: ir.Expr) -> tuple[Any, list[ir.Var]]:
    """Return the loop of ``x op= y`` for an array x, and the tangents to give it after that of x."""
    scalar = _scalar_function(f"(x0 {_SIGNS[_PLAIN_OPERATORS[value.fn]]} x1)", 2, ())
    function = transformation.tangent_dispatcher(scalar)
    kind = transformation.kind(value.lhs)
    active = transformation.active(value.rhs)
    right = _dimensions(transformation.kind(value.rhs))
    kernel = _loop_in_place(function, kind.ndim, right, active, transformation.parallel)
    own = transformation.own(value.rhs) if active else transformation.writer.constant(None)
    return kernel, [own]


def _dimensions(kind: types.Type) -> int:
    return kind.ndim if isinstance(kind, types.Array) else -1


@cache
def _scalar_function(source: str, count: int, functions: tuple[Any, ...]) -> Any:
    names = ", ".join(f"x{index}" for index in range(count))
    space = {f"f{index}": function for index, function in enumerate(functions)}
    exec(f"def element({names}):\n    return {source}\n", space)  # noqa: S102
    return njit(error_model="numpy")(space["element"])


def _element(name: str, dimensions: int, result: int) -> str:
    """Return an operand's element where the loops stand: trailing dimensions, as broadcasting has it."""
    if dimensions < 0:
        return name
    indices = ", ".join(f"i{axis}" for axis in range(result - dimensions, result))
    return f"{name}[{indices}]" if indices else f"{name}[()]"


@cache
def _loop(
    function: Any,
    dimensions: tuple[int, ...],
    mask: tuple[bool, ...],
    result: int,
    dtype: np.dtype[Any],
    active: bool,
    parallel: bool,
) -> Any:
    names = [f"x{index}" for index in range(len(dimensions))]
    arrays = [name for name, count in zip(names, dimensions, strict=True) if count >= 0]
    tangents = [f"d{name}" for name in names] if active else []
    arguments = [*names, *tangents, *(["zero"] if active else [])]
    lines = [f"def loop({', '.join(arguments)}):"]
    shapes = ", ".join(f"{name}.shape" for name in arrays)
    lines.append(f"    shape = broadcast({shapes})" if len(arrays) > 1 else f"    shape = {arrays[0]}.shape")
    for name, count, on in zip(names, dimensions, mask, strict=True):
        if count > 0 and len(arrays) > 1:
            # An operand that is stretched is copied once at its full size, so that the loop below is the only one.
            lines.append(f"    if {name}.shape != shape[{result - count}:]:")
            lines.append(f"        {name} = stretched({name}, shape[{result - count}:])")
            if on:
                lines.append(f"        d{name} = stretched(d{name}, shape[{result - count}:])")
    lines.append("    y = empty(shape, dtype)")
    if active:
        lines.append("    dy = zeros_beside(y, zero)")
    indent = "    "
    for axis in range(result):
        lines.append(f"{indent}for i{axis} in {'prange' if parallel and axis == 0 else 'range'}(shape[{axis}]):")
        indent += "    "
    values = [_element(name, count, result) for name, count in zip(names, dimensions, strict=True)]
    here = _element("y", result, result)
    if active:
        values += [
            _element(f"d{name}", count, result) if on else "None"
            for name, count, on in zip(names, dimensions, mask, strict=True)
        ]
        lines.append(f"{indent}{here}, {_element('dy', result, result)} = element({', '.join(values)})")
        lines.append("    return y, dy")
    else:
        lines.append(f"{indent}{here} = element({', '.join(values)})")
        lines.append("    return y")
    return _compiled(lines, function, dtype, parallel)


@cache
def _loop_in_place(function: Any, result: int, right: int, active: bool, parallel: bool) -> Any:
    lines = ["def loop(y, x, dy, dx):"]
    if right > 0:
        lines.append(f"    if x.shape != y.shape[{result - right}:]:")
        lines.append(f"        x = stretched(x, y.shape[{result - right}:])")
        if active:
            lines.append(f"        dx = stretched(dx, y.shape[{result - right}:])")
    indent = "    "
    for axis in range(result):
        lines.append(f"{indent}for i{axis} in {'prange' if parallel and axis == 0 else 'range'}(y.shape[{axis}]):")
        indent += "    "
    here, tangent = _element("y", result, result), _element("dy", result, result)
    other = _element("dx", right, result) if active else "None"
    lines.append(f"{indent}{here}, {tangent} = element({here}, {_element('x', right, result)}, {tangent}, {other})")
    return _compiled(lines, function, np.dtype(np.float64), parallel)


def _compiled(lines: list[str], function: Any, dtype: np.dtype[Any], parallel: bool) -> Any:
    from numba import prange

    space = {
        "element": function,
        "broadcast": np.broadcast_shapes,
        "stretched": _stretched,
        "empty": np.empty,
        "zeros_beside": zeros_beside,
        "dtype": dtype.type,
        "prange": prange,
    }
    exec("\n".join(lines) + "\n", space)  # noqa: S102
    return njit(parallel=parallel, error_model="numpy")(space["loop"])


@njit
def _stretched(array, shape):
    return np.broadcast_to(array, shape).copy()
