"""A function of one number as a graph of operations, and its derivative as another.

A node is an operation and its operands. Equal nodes are one object, so that what a value and its derivatives share is
computed once. Derivatives of functions come from the table of :mod:`fgnumba.functions.partials`; that of a quotient is
(da - y db) / b, which loses nothing where 1 / b² would be too small for a float32.
"""

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from fgnumba.functions.partials import SCALAR_FUNCTIONS, expression

ARITHMETIC = ("add", "subtract", "multiply", "divide", "negative")
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_FOLDED: dict[str, Callable[[float, float], float]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
}
_OPERATORS = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide"}


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """An operation.

    Parameters
    ----------
    op : str
        ``argument``; ``number``; one of :data:`ARITHMETIC` or the name of a function; a comparison; ``select``, of a
        comparison and two numbers; or ``product``, which is 0 wherever one of its factors is, even if the other is
        infinite.
    operands : tuple of Node
        What it is computed from.
    number : float
        The value of a ``number``.
    """

    op: str
    operands: tuple["Node", ...] = ()
    number: float = 0.0


Truth: TypeAlias = "bool | Node | tuple[str, Truth, Truth]"
"""A condition: known, a comparison, or ("and" or "or", condition, condition)."""


class Graph:
    """Makes nodes, each of them once.

    Parameters
    ----------
    guarded : bool
        Whether the products of the chain rule are 0 where a factor is 0.
    most : int
        The most nodes.
    too_long : callable
        Raises the error for more nodes.
    """

    def __init__(self, guarded: bool, most: int, too_long: Callable[[], None]) -> None:
        self._nodes: dict[tuple[object, ...], Node] = {}
        self._derivatives: dict[int, Node | None] = {}
        self._guarded, self._most, self._too_long = guarded, most, too_long
        self.argument = self._node("argument")

    def _node(self, op: str, *operands: Node, number: float = 0.0) -> Node:
        # Text tells -0.0 from 0.0, and NaN from nothing.
        key = (op, repr(number), *map(id, operands))
        if key not in self._nodes:
            if len(self._nodes) >= self._most:
                self._too_long()
            self._nodes[key] = Node(op, operands, number)
        return self._nodes[key]

    def number(self, value: float) -> Node:
        """Return a constant."""
        return self._node("number", number=float(value))

    def add(self, a: Node, b: Node) -> Node:
        """Return a + b."""
        return self._arithmetic("add", a, b)

    def subtract(self, a: Node, b: Node) -> Node:
        """Return a - b."""
        return self._arithmetic("subtract", a, b)

    def multiply(self, a: Node, b: Node) -> Node:
        """Return a b."""
        return self._arithmetic("multiply", a, b)

    def divide(self, a: Node, b: Node) -> Node:
        """Return a / b."""
        return self._arithmetic("divide", a, b)

    def negative(self, a: Node) -> Node:
        """Return -a."""
        if a.op == "number":
            return self.number(-a.number)
        return a.operands[0] if a.op == "negative" else self._node("negative", a)

    def _arithmetic(self, op: str, a: Node, b: Node) -> Node:
        if a.op == b.op == "number" and not (op == "divide" and b.number == 0):
            return self.number(_FOLDED[op](a.number, b.number))
        if op in ("multiply", "divide") and _is(b, 1):
            return a
        if op == "multiply" and _is(a, 1):
            return b
        if op in ("multiply", "divide") and _is(b, -1):
            return self.negative(a)
        if op == "multiply" and _is(a, -1):
            return self.negative(b)
        if op in ("add", "subtract") and _is(b, 0):
            return a
        if op == "add" and _is(a, 0):
            return b
        if op == "subtract" and _is(a, 0):
            return self.negative(b)
        if op == "divide" and b.op == "number" and _is_power_of_two(b.number):
            return self._node("multiply", a, self.number(1 / b.number))
        return self._node(op, a, b)

    def compare(self, sign: str, a: Node, b: Node) -> Truth:
        """Return the condition that two numbers compare as `sign` says."""
        if a.op == b.op == "number":
            return bool(COMPARISONS[sign](a.number, b.number))
        return self._node(sign, a, b)

    def select(self, condition: Truth, a: Node, b: Node) -> Node:
        """Return a where the condition is true, else b."""
        if a is b:
            return a
        if isinstance(condition, bool):
            return a if condition else b
        if isinstance(condition, Node):
            return self._node("select", condition, a, b)
        kind, first, second = condition
        if kind == "and":
            return self.select(first, self.select(second, a, b), b)
        if kind == "or":
            return self.select(first, a, self.select(second, a, b))
        return self.select(first, b, a)

    def call(self, name: str, *arguments: Node) -> Node:
        """Return a function of the table, or one that its partial derivatives call."""
        made = getattr(self, f"_{name}", None)
        if name in ARITHMETIC:
            result: Node = getattr(self, name)(*arguments)
            return result
        return made(*arguments) if made is not None else self._node(name, *arguments)

    # Functions that are composed of others here.

    def _positive(self, x: Node) -> Node:
        return x

    def _square(self, x: Node) -> Node:
        return self.multiply(x, x)

    def _reciprocal(self, x: Node) -> Node:
        return self.divide(self.number(1), x)

    def _absolute(self, x: Node) -> Node:
        return self.number(abs(x.number)) if x.op == "number" else self._node("absolute", x)

    def _sign(self, x: Node) -> Node:
        zero, one = self.number(0), self.number(1)
        below = self.select(self.compare("<", x, zero), self.number(-1), zero)
        return self.select(self.compare(">", x, zero), one, below)

    def _side(self, x: Node) -> Node:
        return self.select(self.compare(">=", x, self.number(0)), self.number(1), self.number(-1))

    def _ceil(self, x: Node) -> Node:
        return self.negative(self.call("floor", self.negative(x)))

    def _trunc(self, x: Node) -> Node:
        return self.select(self.compare("<", x, self.number(0)), self._ceil(x), self.call("floor", x))

    def _remainder(self, a: Node, b: Node) -> Node:
        return self.subtract(a, self.multiply(b, self._floor_divide(a, b)))

    def _floor_divide(self, a: Node, b: Node) -> Node:
        return self.call("floor", self.divide(a, b))

    def _maximum(self, a: Node, b: Node) -> Node:
        return self._extreme("maximum", a, b)

    def _minimum(self, a: Node, b: Node) -> Node:
        return self._extreme("minimum", a, b)

    def _extreme(self, name: str, a: Node, b: Node) -> Node:
        if a.op == b.op == "number":
            return self.number((max if name == "maximum" else min)(a.number, b.number))
        # A constant last: of NaN and a constant, the rule returns the NaN.
        return self._node(name, *((b, a) if a.op == "number" else (a, b)))

    def _copysign(self, a: Node, b: Node) -> Node:
        size = self._absolute(a)
        return self.select(self.compare("<", b, self.number(0)), self.negative(size), size)

    def _degrees(self, x: Node) -> Node:
        return self.multiply(x, self.number(math.degrees(1)))

    def _radians(self, x: Node) -> Node:
        return self.multiply(x, self.number(math.radians(1)))

    def _logaddexp(self, a: Node, b: Node) -> Node:
        largest = self._maximum(a, b)
        return self.add(
            largest, self.call("log1p", self.call("exp", self.subtract(self._minimum(a, b), largest)))
        )

    def _heaviside(self, x: Node, half: Node) -> Node:
        above = self.select(self.compare(">", x, self.number(0)), self.number(1), half)
        return self.select(self.compare("<", x, self.number(0)), self.number(0), above)

    def _hypot(self, a: Node, b: Node) -> Node:
        return self.call("sqrt", self.add(self.multiply(a, a), self.multiply(b, b)))

    def _power(self, a: Node, b: Node) -> Node:
        if b.op == "number" and abs(b.number) <= 64 and b.number == int(b.number):
            n = int(abs(b.number))
            result, square = self.number(1), a
            while n:
                result = self.multiply(result, square) if n & 1 else result
                square, n = self.multiply(square, square) if n > 1 else square, n >> 1
            return result if b.number >= 0 else self.divide(self.number(1), result)
        if b.op == "number" and math.isfinite(b.number) and b.number == int(b.number):
            size = self._node("power", self._absolute(a), b)
            below = self.negative(size) if int(b.number) % 2 else size
            return self.select(self.compare("<", a, self.number(0)), below, size)
        if b.op == "number" and b.number in (0.5, -0.5):
            root = self.call("sqrt", a)
            return root if b.number > 0 else self.divide(self.number(1), root)
        return self._node("power", a, b)

    def _power_slope(self, a: Node, b: Node) -> Node:
        slope = self.multiply(b, self._power(a, self.subtract(b, self.number(1))))
        return self.select(self.compare("==", b, self.number(0)), self.number(0), slope)

    def _nonzero(self, x: Node) -> Node:
        return self.select(self.compare("==", x, self.number(0)), self.number(1), x)

    def _larger_share(self, a: Node, b: Node) -> Node:
        tie = self.select(self.compare("==", a, b), self.number(0.5), self.number(0))
        return self.select(self.compare(">", a, b), self.number(1), tie)

    # Derivatives.

    def derivative(self, node: Node) -> Node:
        """Return the derivative of a node in the argument."""
        # Operands first, so that nothing recurs deeply.
        for one in ordered(node):
            if one.op not in COMPARISONS:
                self._slope(one)
        found = self._slope(node)
        return self.number(0) if found is None else found

    def _slope(self, node: Node) -> Node | None:
        """Return the derivative; None where it is zero everywhere, so that nothing is multiplied by it."""
        if id(node) not in self._derivatives:
            self._derivatives[id(node)] = self._new_slope(node)
        return self._derivatives[id(node)]

    def _new_slope(self, node: Node) -> Node | None:
        if node.op == "argument":
            return self.number(1)
        if node.op == "select":
            condition, a, b = node.operands
            da, db = self._slope(a), self._slope(b)
            zero = self.number(0)
            return None if da is db is None else self.select(condition, da or zero, db or zero)
        if node.op == "divide":
            return self._slope_of_quotient(node)
        if node.op == "product":
            a, b = node.operands
            da, db = self._slope(a), self._slope(b)
            return self._sum(da and self._product(b, da), db and self._product(a, db))
        total: Node | None = None
        for index, operand in enumerate(node.operands):
            slope = self._slope(operand)
            partial = None if slope is None else self._partial(node, index)
            if slope is not None and partial is not None:
                total = self._sum(total, self._product(partial, slope))
        return total

    def _slope_of_quotient(self, node: Node) -> Node | None:
        a, b = node.operands
        da, db = self._slope(a), self._slope(b)
        if db is None:
            return None if da is None else self.divide(da, b)
        lost = self._product(node, db)
        return self.divide(self.negative(lost) if da is None else self.subtract(da, lost), b)

    def _sum(self, a: Node | None, b: Node | None) -> Node | None:
        return a if b is None else b if a is None else self.add(a, b)

    def _product(self, a: Node, b: Node) -> Node:
        if a.op == "number" or b.op == "number" or not self._guarded:
            return self.multiply(a, b)
        return self._node("product", a, b)

    def _partial(self, node: Node, index: int) -> Node | None:
        """Return the partial derivative of a function in one of its arguments; None if it is zero."""
        if node.op == "expm1":
            return self.call("exp", node.operands[0])
        if node.op == "tanh":
            return self.call("tanh_slope", node.operands[0])
        if node.op == "tanh_slope":
            # (tanh x)'' = -2 tanh x (tanh x)'
            twice = self.multiply(self.number(-2), self.call("tanh", node.operands[0]))
            return self.multiply(twice, node)
        function = SCALAR_FUNCTIONS[node.op]
        text = function.partials[index]
        if text == "0":
            return None
        names = dict(zip(function.arguments, node.operands, strict=True)) | {"y": node}
        return self.formula(expression(text), names)

    def formula(self, tree: ast.expr, names: dict[str, Node]) -> Node:
        """Return the node of an expression of the table of partial derivatives."""
        if isinstance(tree, ast.Constant):
            return self.number(float(tree.value))  # type: ignore[arg-type]
        if isinstance(tree, ast.Name):
            return names[tree.id]
        if isinstance(tree, ast.UnaryOp):
            return self.negative(self.formula(tree.operand, names))
        if isinstance(tree, ast.BinOp):
            left, right = self.formula(tree.left, names), self.formula(tree.right, names)
            return self._arithmetic(_OPERATORS[type(tree.op)], left, right)
        assert isinstance(tree, ast.Call), ast.dump(tree)
        assert isinstance(tree.func, ast.Name), ast.dump(tree)
        return self.call(tree.func.id, *(self.formula(one, names) for one in tree.args))


def ordered(*outputs: Node) -> list[Node]:
    """Return all nodes from which some are computed, operands first."""
    found: dict[int, Node] = {}
    waiting = list(reversed(outputs))
    while waiting:
        node = waiting[-1]
        missing = [one for one in node.operands if id(one) not in found]
        if id(node) in found or not missing:
            found.setdefault(id(node), node)
            waiting.pop()
        else:
            waiting.extend(reversed(missing))
    return list(found.values())


def _is(node: Node, value: float) -> bool:
    return node.op == "number" and node.number == value


def _is_power_of_two(value: float) -> bool:
    return value != 0 and math.isfinite(value) and abs(math.frexp(value)[0]) == 0.5 and abs(value) < 2.0**100
