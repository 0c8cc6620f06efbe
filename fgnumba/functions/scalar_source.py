"""A graph of operations of one number as source in Python, and in float64 with a bound of float32's roundings."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.functions.scalar_graph import COMPARISONS, Node, ordered

Array = npt.NDArray[np.float64]

_SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}

ROUNDING = 2.0**-24
MOST = float(np.finfo(np.float32).max)
TINY = 2.0**-126
"""Results below it count as zero in kernels."""


def source_of(name: str, outputs: Sequence[Node], arguments: str = "z") -> str:
    """Return a function of one float32 that returns the outputs, each a float32, as source.

    Every operation is a line. Choices are ``p if condition else q`` between numbers that are computed already, which
    the compiler turns into selects.

    Parameters
    ----------
    name : str
        The function's name.
    outputs : sequence of Node
        What it returns.
    arguments : str
        Its arguments, of which z is the number. Default: ``"z"``.

    Returns
    -------
    str
        The source: constants as ``np.float32``, then the function.
    """
    constants: list[str] = ["zero = np.float32(0.0)"]
    lines: list[str] = []
    names: dict[int, str] = {}
    for node in ordered(*outputs):
        if node.op == "argument":
            names[id(node)] = "z"
        elif node.op == "number":
            names[id(node)] = f"c{len(constants)}"
            constants.append(f"c{len(constants)} = np.float32({_literal(node.number)})")
        else:
            text = _line(node, [names[id(one)] for one in node.operands])
            if node.op in COMPARISONS:
                names[id(node)] = text
            else:
                names[id(node)] = f"t{len(lines) + 1}"
                lines.append(f"    t{len(lines) + 1} = {text}")
    returned = ", ".join(names[id(one)] for one in outputs)
    # A constant that is returned has no type but its own; NaN in must give NaN out of a sum.
    return "\n".join((*constants, "", "", f"def {name}({arguments}):", *lines, f"    return {returned}", ""))


def _literal(value: float) -> str:
    return (
        repr(value)
        if abs(value) < MOST
        else f'float("{math.copysign(math.inf, value) if value == value else value}")'
    )


def _line(node: Node, o: list[str]) -> str:
    if node.op in _SIGNS:
        return f"{o[0]} {_SIGNS[node.op]} {o[1]}"
    if node.op in COMPARISONS:
        return f"{o[0]} {node.op} {o[1]}"
    if node.op == "negative":
        return f"-{o[0]}"
    if node.op == "absolute":
        return f"abs({o[0]})"
    if node.op == "select":
        return f"{o[1]} if {o[0]} else {o[2]}"
    if node.op == "product":
        return f"zero if {o[0]} == zero else (zero if {o[1]} == zero else {o[0]} * {o[1]})"
    if node.op in ("maximum", "minimum"):
        # NaN in the first operand stays NaN.
        sign = ">" if node.op == "maximum" else "<"
        return f"{o[1]} if {o[1]} {sign} {o[0]} else {o[0]}"
    return f"{node.op}({', '.join(o)})"


def _product(a: Any, b: Any) -> Any:
    return np.where((a == 0) | (b == 0), a.dtype.type(0) if isinstance(a, np.ndarray) else 0.0, a * b)


def _one_by_one(function: Callable[[float], float]) -> Callable[[Any], Any]:
    def apply(x: Any) -> Any:
        given = np.asarray(x)
        found = np.array([function(float(one)) for one in given.ravel()], np.float64)
        return found.reshape(given.shape).astype(given.dtype)

    return apply


def _slope_of_tanh(x: Any) -> Any:
    e = np.exp(-2 * np.abs(x))
    return 4 * e / ((1 + e) * (1 + e))


def _power(a: Any, b: Any) -> Any:
    return np.where(np.asarray(a) < 0, np.asarray(a).dtype.type(np.nan), np.power(a, b))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in (*_SIGNS, "negative", "absolute", "maximum", "minimum")},
    **{
        name: getattr(np, name)
        for name in ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt")
    },
    **{name: getattr(np, name) for name in ("sin", "cos", "tan", "arcsin", "arccos", "arctan", "floor")},
    **{name: getattr(np, name) for name in ("sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh")},
    "erf": _one_by_one(math.erf),
    "erfc": _one_by_one(math.erfc),
    "power": _power,
    "product": _product,
    "tanh_slope": _slope_of_tanh,
}
"""What the operations of a graph compute, of NumPy arrays."""

ROUNDINGS = {
    **dict.fromkeys(("negative", "absolute", "maximum", "minimum", "floor"), 0.0),
    **dict.fromkeys((*_SIGNS, "sqrt", "product"), 1.0),
    **dict.fromkeys(("exp", "exp2", "log", "cbrt"), 3.0),
    **dict.fromkeys(("erf", "tanh", "sin", "cos"), 8.0),
    **dict.fromkeys(("tanh_slope", "tan"), 12.0),
}
"""Errors of the operations in float32, in halves of a unit in the last place; 6 of those that are not listed."""


def values(outputs: Sequence[Node], z: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Return the outputs of a graph at each z, computed in the dtype of z, float32 or float64.

    Parameters
    ----------
    outputs : sequence of Node
        The nodes.
    z : ndarray
        (n,) float32 or float64.

    Returns
    -------
    list of ndarray
        (n,) of the same dtype, one for each output.
    """
    known: dict[int, Any] = {}
    with np.errstate(all="ignore"):
        for node in ordered(*outputs):
            operands = [known[id(one)] for one in node.operands]
            if node.op == "argument":
                known[id(node)] = z
            elif node.op == "number":
                known[id(node)] = np.full_like(z, node.number)
            elif node.op in COMPARISONS:
                known[id(node)] = COMPARISONS[node.op](*operands)
            elif node.op == "select":
                known[id(node)] = np.where(*operands)
            else:
                known[id(node)] = FUNCTIONS[node.op](*operands)
    return [known[id(one)] for one in outputs]


def with_bounds(outputs: Sequence[Node], z: Array) -> list[tuple[Array, Array]]:
    """Return the outputs of a graph in float64, each with a bound of what float32 arithmetic may differ by.

    The bound is a running error analysis (N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2002, section
    3.3): an operation's error is its own roundings, and by how much its value differs where its operands are wrong by
    their errors. A choice whose condition is within the errors may go either way. Where a number is too large for a
    float32, its error is infinite.

    Parameters
    ----------
    outputs : sequence of Node
        The nodes.
    z : ndarray
        (n,) float64.

    Returns
    -------
    list of (ndarray, ndarray)
        Value and bound of each output, both (n,).
    """
    known: dict[int, tuple[Any, Any]] = {}
    with np.errstate(all="ignore"):
        for node in ordered(*outputs):
            known[id(node)] = _bounded(node, z, [known[id(one)] for one in node.operands])
    return [known[id(one)] for one in outputs]


def _bounded(node: Node, z: Array, operands: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    if node.op == "argument":
        return z, np.zeros_like(z)
    if node.op == "number":
        error = abs(node.number - float(np.float32(node.number)))
        return np.full_like(z, node.number), np.full_like(z, error)
    if node.op in COMPARISONS:
        (a, ea), (b, eb) = operands
        unsure = (np.abs(a - b) <= ea + eb) & (ea + eb > 0)
        return COMPARISONS[node.op](a, b), unsure
    if node.op == "select":
        (truth, unsure), (a, ea), (b, eb) = operands
        either = np.maximum(np.abs(a - b), 0.0) + np.maximum(ea, eb)
        error = np.where(unsure, either, np.where(truth, ea, eb))
        return np.where(truth, a, b), np.where(np.isnan(error), np.inf, error)
    value = FUNCTIONS[node.op](*(v for v, _ in operands))
    own = ROUNDINGS.get(node.op, 6.0)
    error = _spread(node.op, value, operands) + own * ROUNDING * np.abs(value) + (TINY if own else 0.0)
    error = error + _besides(node.op, value, [v for v, _ in operands])
    return value, np.where((np.abs(value) + error > MOST) | np.isnan(error), np.inf, error)


def _besides(op: str, value: Any, operands: list[Any]) -> Any:
    """Return what a function of float32 may be wrong by besides roundings of its value."""
    size = np.abs(operands[0])
    if op == "erfc":
        # It takes the normal distribution at sqrt(2) x, where a rounding of the argument counts x² times.
        return 4 * size * size * ROUNDING * np.abs(value)
    if op == "power":
        # It is exp(b log a), and the exponent's roundings count as often as it is large.
        exponent = np.abs(operands[1] * np.log(operands[0]))
        return np.where(value == 0, 0.0, 4 * exponent * ROUNDING * np.abs(value))
    if op in ("sin", "cos"):
        # A reduced argument is wrong by roundings of the argument, beyond where its reduction is exact.
        far = np.where(size > FARTHEST_REDUCED, 2.0, 4 * ROUNDING * size)
        return np.where(size > EXACTLY_REDUCED, far, 2 * ROUNDING)
    return np.where(size > EXACTLY_REDUCED, np.inf, 0.0) if op == "tan" else 0.0


EXACTLY_REDUCED, FARTHEST_REDUCED = 8e3, 4e6
"""So far, sin and cos subtract multiples of π/2 without a rounding, and with one of the argument."""


def _spread(op: str, value: Any, operands: list[tuple[Any, Any]]) -> Any:
    """Return by how much a value differs where its operands are wrong by their errors, each to either side."""
    most: Any = np.zeros_like(value)
    if not any(np.any(error) for _, error in operands):
        return most
    for corner in product(*((centre - error, centre + error) for centre, error in operands)):
        apart = np.abs(FUNCTIONS[op](*corner) - value)
        most = np.maximum(most, np.where(np.isnan(apart), np.inf, apart))
    exact = np.all([error == 0 for _, error in operands], axis=0)
    return np.where(exact, 0.0, most)
