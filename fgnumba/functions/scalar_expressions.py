"""The expressions of a function of one number, run on symbols; see :mod:`fgnumba.functions.scalar_reader`."""

import ast
import builtins
import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import numpy as np

from fgnumba.errors import printable
from fgnumba.functions.scalar_graph import COMPARISONS, Graph, Node, Truth
from fgnumba.functions.scalar_names import (
    ARITY,
    AS_THEY_ARE,
    FUNCTIONS,
    KNOWN_OPERATORS,
    KNOWN_SIGNS,
    KNOWN_UNARY,
    NUMBERS,
    OPERATORS,
    POSSIBLE,
    SIGNS,
    called,
    is_hashable,
    named_function,
    only_computes,
)
from fgnumba.functions.scalar_text import Source, plain_function


class Condition:
    """A condition that depends on the number."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth


UNSET: Any = object()
"""A name that only one branch has given a value."""


class Expressions:
    """The names of one call, and the values of its expressions.

    Parameters
    ----------
    graph : Graph
        Makes the nodes.
    source : Source
        The function.
    names : dict
        The values of its names.
    """

    def __init__(self, graph: Graph, source: Source, names: dict[str, Any]) -> None:
        self.graph, self.source, self.names = graph, source, names

    @abstractmethod
    def called(self, node: ast.Call, function: Any, arguments: list[Any], named: dict[str, Any]) -> Any:
        """Return what a function with a source returns."""

    def refuse(self, node: ast.AST, reason: str) -> NoReturn:
        """Raise the error that a piece of the function is not possible."""
        self.source.refuse(node, reason)

    def value(self, node: ast.expr) -> Any:
        """Return the value of an expression: a node, a condition, or what Python has there."""
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            self.refuse(node, f"{called(node)} is not possible in a function of one number")
        return method(node)

    def _node(self, place: ast.AST, value: Any) -> Node:
        if isinstance(value, Node):
            return value
        if isinstance(value, Condition):
            return self.graph.select(value.truth, self.graph.number(1), self.graph.number(0))
        if not isinstance(value, NUMBERS):
            # What was made of the argument has no text that its user knows.
            given = "a tuple" if isinstance(value, tuple) else printable(repr(value))[:80]
            self.refuse(place, f"{given} is no number")
        return self.graph.number(float(value))

    def truth(self, node: ast.expr) -> Truth:
        value = self.value(node)
        if isinstance(value, Condition):
            return value.truth
        if isinstance(value, Node):
            return self.graph.compare("!=", value, self.graph.number(0))
        return bool(self._python(node, lambda: bool(value)))

    def _python(self, node: ast.AST, compute: Callable[[], Any]) -> Any:
        """Return what Python computes of what is known."""
        try:
            return compute()
        except Exception as error:
            self.refuse(node, f"{type(error).__name__}: {error}")

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _tuple(self, node: ast.Tuple) -> Any:
        return tuple(self.value(one) for one in node.elts)

    def _list(self, node: ast.List) -> Any:
        return tuple(self.value(one) for one in node.elts)

    def _name(self, node: ast.Name) -> Any:
        function = self.source.function
        if node.id in self.names:
            if self.names[node.id] is UNSET:
                self.refuse(node, f"{node.id} has a value in one branch alone")
            return self.names[node.id]
        if node.id in function.__code__.co_freevars:
            cell = (function.__closure__ or ())[function.__code__.co_freevars.index(node.id)]
            return self._python(node, lambda: cell.cell_contents)
        if node.id in function.__globals__:
            return function.__globals__[node.id]
        if hasattr(builtins, node.id):
            return getattr(builtins, node.id)
        self.refuse(node, f"{node.id} is not defined")

    def _attribute(self, node: ast.Attribute) -> Any:
        value = self.value(node.value)
        if isinstance(value, Node | Condition):
            self.refuse(node, f"the number has no {node.attr} here")
        return self._python(node, lambda: getattr(value, node.attr))

    def _subscript(self, node: ast.Subscript) -> Any:
        value, index = self.value(node.value), self.value(node.slice)
        if is_symbol(index) or isinstance(value, Node | Condition):
            self.refuse(node, "an index that depends on the number is not possible")
        return self._python(node, lambda: value[index])

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not):
            truth = self.truth(node.operand)
            return not truth if isinstance(truth, bool) else Condition(("not", truth, truth))
        value = self.value(node.operand)
        if not is_symbol(value):
            return self._python(node, lambda: KNOWN_UNARY[type(node.op)](value))
        if isinstance(node.op, ast.Invert):
            self.refuse(node, "~ is not possible in a function of one number")
        number = self._node(node, value)
        return self.graph.negative(number) if isinstance(node.op, ast.USub) else number

    def _binop(self, node: ast.BinOp) -> Any:
        a, b = self.value(node.left), self.value(node.right)
        if not is_symbol(a) and not is_symbol(b):
            return self._python(node, lambda: KNOWN_OPERATORS[type(node.op)](a, b))
        if type(node.op) not in OPERATORS:
            self.refuse(node, f"{called(node.op)} is not possible in a function of one number")
        return self.graph.call(OPERATORS[type(node.op)], self._node(node, a), self._node(node, b))

    def _boolop(self, node: ast.BoolOp) -> Any:
        kind = "and" if isinstance(node.op, ast.And) else "or"
        truth = self.truth(node.values[0])
        for one in node.values[1:]:
            if isinstance(truth, bool):
                truth = truth if truth is (kind == "or") else self.truth(one)
            else:
                truth = (kind, truth, self.truth(one))
        return truth if isinstance(truth, bool) else Condition(truth)

    def _compare(self, node: ast.Compare) -> Any:
        values = [self.value(one) for one in (node.left, *node.comparators)]
        truth: Truth = True
        for a, sign, b in zip(values, node.ops, values[1:], strict=False):
            if not is_symbol(a) and not is_symbol(b):
                one: Truth = bool(self._python(node, partial(KNOWN_SIGNS[type(sign)], a, b)))
            elif type(sign) not in SIGNS:
                self.refuse(node, f"{called(sign)} is not possible in a function of one number")
            else:
                one = self.graph.compare(SIGNS[type(sign)], self._node(node, a), self._node(node, b))
            truth = one if truth is True else ("and", truth, one)
        return truth if isinstance(truth, bool) else Condition(truth)

    def _ifexp(self, node: ast.IfExp) -> Any:
        truth = self.truth(node.test)
        if isinstance(truth, bool):
            return self.value(node.body if truth else node.orelse)
        return self.selected(node, truth, self.value(node.body), self.value(node.orelse))

    def _call(self, node: ast.Call) -> Any:
        function = self.value(node.func)
        if any(isinstance(one, ast.Starred) for one in node.args) or any(
            one.arg is None for one in node.keywords
        ):
            self.refuse(node, "* and ** are not possible in a call")
        arguments = [self.value(one) for one in node.args]
        named = {str(one.arg): self.value(one.value) for one in node.keywords}
        plain = plain_function(function)
        if plain is not None:
            return self.called(node, plain, arguments, named)
        if not any(map(is_symbol, (*arguments, *named.values()))):
            if not is_hashable(function) or (function not in FUNCTIONS and not only_computes(function)):
                self.refuse(node, f"{named_function(function)} is not possible in a function of one number")
            return self._python(node, lambda: function(*arguments, **named))
        return self._of_the_number(node, function, arguments, named)

    def _of_the_number(
        self, node: ast.Call, function: Any, arguments: list[Any], named: dict[str, Any]
    ) -> Any:
        if named:
            self.refuse(node, f"{named_function(function)} takes no names of arguments here")
        if function in (max, min):
            return self._extreme(node, function, arguments)
        if function is np.where and len(arguments) == 3:
            condition, a, b = arguments
            truth = condition.truth if isinstance(condition, Condition) else self._node(node, condition)
            if isinstance(truth, Node) and truth.op not in COMPARISONS:
                truth = self.graph.compare("!=", truth, self.graph.number(0))
            return self.selected(node, truth, a, b)
        numbers = [self._node(node, one) for one in arguments]
        if function in AS_THEY_ARE and len(numbers) == 1:
            return numbers[0]
        if function is math.log and numbers:
            found = self.graph.call("log", numbers[0])
            base = [self.graph.call("log", one) for one in numbers[1:2]]
            return self.graph.divide(found, base[0]) if base else found
        name = FUNCTIONS.get(function) if is_hashable(function) else None
        if name is None:
            self.refuse(
                node, f"{named_function(function)} is not possible in a function of one number; {POSSIBLE}"
            )
        if len(numbers) != ARITY.get(name, 1):
            self.refuse(node, f"{named_function(function)} takes {ARITY.get(name, 1)} numbers here")
        return self.graph.call(name, *numbers)

    def _extreme(self, node: ast.Call, function: Any, arguments: list[Any]) -> Any:
        given = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], tuple) else arguments
        name = "maximum" if function is max else "minimum"
        numbers = [self._node(node, one) for one in given]
        found = numbers[0]
        for one in numbers[1:]:
            found = self.graph.call(name, found, one)
        return found

    def selected(self, place: ast.AST, truth: Truth, a: Any, b: Any) -> Any:
        """Return a value that a condition selects."""
        if a is b or (not is_symbol(a) and not is_symbol(b) and type(a) is type(b) and _same(a, b)):
            return a
        if a is UNSET or b is UNSET:
            return UNSET
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            return tuple(self.selected(place, truth, *both) for both in zip(a, b, strict=True))
        return self.graph.select(truth, self._node(place, a), self._node(place, b))


def is_symbol(value: Any) -> bool:
    """Return whether a value depends on the number."""
    return isinstance(value, Node | Condition) or (
        isinstance(value, tuple | list) and any(map(is_symbol, value))
    )


def _same(a: Any, b: Any) -> bool:
    """Return whether two known values are the same; False where that cannot be told."""
    try:
        return bool(a == b)
    except Exception:
        return False
