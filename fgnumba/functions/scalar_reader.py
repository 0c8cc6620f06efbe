"""Reads a Python function of one number: its source becomes a graph of operations.

The function is run on a symbol in place of a number. Both branches of an ``if`` are run, and the values after it are
selected by its condition; loops over known things are run as often as they go round; calls of other functions are run
in their place. Whatever does not depend on the number (names of a module or a closure, defaults) is known, and is
computed by Python itself.
"""

import ast
import inspect
import types
from typing import Any, NoReturn

from fgnumba.errors import ConfigError, printable
from fgnumba.functions.scalar_expressions import UNSET, Condition, Expressions
from fgnumba.functions.scalar_graph import Graph, Node
from fgnumba.functions.scalar_names import NUMBERS, called
from fgnumba.functions.scalar_text import Source, plain_function

MOST_NODES = 2000
MOST_STATEMENTS = 20_000
MOST_DEPTH = 40
"""The most operations with derivatives, statements that are run, and calls within calls."""

_NOTHING: Any = object()
"""What a statement returns that is no ``return``."""


def read(function: Any, what: str, guarded: bool) -> tuple[Graph, Node]:
    """Return a function of one number as a graph, and the node of its value.

    Parameters
    ----------
    function : function or Numba dispatcher
        The function.
    what : str
        What it is for, for messages.
    guarded : bool
        Whether products of the chain rule are 0 where a factor is 0.

    Raises
    ------
    ConfigError
        It is no function of one number, its source cannot be read, or it has something that is not supported. The
        message names function, file and line.
    """
    plain = plain_function(function)
    if plain is None:
        raise ConfigError(
            f"{what} is {printable(repr(function))}; a Python function of one number is required"
        )
    source = Source(plain, what)

    def too_long() -> NoReturn:
        source.refuse(None, f"it has more than {MOST_NODES:,} operations with its derivatives")

    graph = Graph(guarded, MOST_NODES, too_long)
    value = _Run(graph).call(source, [graph.argument], {}, 0)
    node = graph.number(float(value)) if isinstance(value, NUMBERS) else value
    if not isinstance(node, Node):
        source.refuse(None, f"it returns {type(value).__name__}; a number is required")
    return graph, node


class _Run:
    """Runs functions on symbols."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.statements = graph, 0
        self.sources: dict[Any, Source] = {}

    def call(self, source: Source, arguments: list[Any], named: dict[str, Any], depth: int) -> Any:
        """Return what a function returns."""
        if depth > MOST_DEPTH:
            source.refuse(None, f"its calls are more than {MOST_DEPTH} deep; a recursion is not possible")
        try:
            bound = inspect.signature(source.function).bind(*arguments, **named)
        except TypeError as error:
            takes = "one argument, a number, is required" if depth == 0 else str(error)
            source.refuse(None, f"it cannot be called: {takes}")
        bound.apply_defaults()
        frame = _Frame(self, source, dict(bound.arguments), depth)
        tree = source.tree
        if isinstance(tree, ast.Lambda):
            return frame.value(tree.body)
        result = frame.run(tree.body)
        if result is _NOTHING or result is None:
            source.refuse(tree.body[-1], "it may end without a return")
        return result

    def source_of(self, function: types.FunctionType, caller: Source, node: ast.AST) -> Source:
        """Return the source of a function that is called."""
        if function not in self.sources:
            try:
                self.sources[function] = Source(function, caller.what)
            except ConfigError as error:
                caller.refuse(node, f"it calls {function.__name__}: {error}")
        return self.sources[function]


class _Frame(Expressions):
    """The names of one call, and what its statements do."""

    def __init__(self, run: _Run, source: Source, names: dict[str, Any], depth: int) -> None:
        super().__init__(run.graph, source, names)
        self.owner, self.depth = run, depth

    def called(self, node: ast.Call, function: Any, arguments: list[Any], named: dict[str, Any]) -> Any:
        """Return what a function with a source returns: it is run in place of the call."""
        source = self.owner.source_of(function, self.source, node)
        return self.owner.call(source, arguments, named, self.depth + 1)

    def run(self, body: list[ast.stmt]) -> Any:
        """Run statements; return what they return, or _NOTHING."""
        for index, statement in enumerate(body):
            self.owner.statements += 1
            if self.owner.statements > MOST_STATEMENTS:
                self.refuse(statement, f"more than {MOST_STATEMENTS:,} statements would be run")
            if isinstance(statement, ast.If):
                return self._branch(statement, body[index + 1 :])
            if isinstance(statement, ast.For):
                result = self._loop(statement, body[index + 1 :])
                return result
            if isinstance(statement, ast.Return):
                return None if statement.value is None else self.value(statement.value)
            self._step(statement)
        return _NOTHING

    def _step(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Assign):
            value = self.value(statement.value)
            for target in statement.targets:
                self._assign(target, value)
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            self._assign(statement.target, self.value(statement.value))
        elif isinstance(statement, ast.AugAssign):
            if not isinstance(statement.target, ast.Name):
                self.refuse(statement, "only names can be assigned to")
            read = ast.copy_location(ast.Name(statement.target.id, ast.Load()), statement.target)
            joined = ast.copy_location(ast.BinOp(read, statement.op, statement.value), statement)
            self._assign(statement.target, self.value(joined))
        elif not (
            isinstance(statement, ast.Pass | ast.AnnAssign)
            or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        ):
            self.refuse(statement, f"{called(statement)} is not possible in a function of one number")

    def _assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, tuple | list):
            if len(value) != len(target.elts):
                self.refuse(target, f"{len(value)} values for {len(target.elts)} names")
            for one, held in zip(target.elts, value, strict=True):
                self._assign(one, held)
        else:
            self.refuse(target, "only names can be assigned to")

    def _branch(self, statement: ast.If, rest: list[ast.stmt]) -> Any:
        truth = self.truth(statement.test)
        if isinstance(truth, bool):
            return self.run([*(statement.body if truth else statement.orelse), *rest])
        before = self.names
        if may_leave(statement):
            found = []
            for body in (statement.body, statement.orelse):
                self.names = dict(before)
                found.append(self.run([*body, *rest]))
            if any(one is _NOTHING or one is None for one in found):
                self.refuse(statement, "it may end without a return")
            return self.selected(statement, truth, *found)
        after = []
        for body in (statement.body, statement.orelse):
            self.names = dict(before)
            self.run(body)
            after.append(self.names)
        first, second = after
        self.names = {
            name: self.selected(statement, truth, first.get(name, UNSET), second.get(name, UNSET))
            for name in {**first, **second}
        }
        return self.run(rest)

    def _loop(self, statement: ast.For, rest: list[ast.stmt]) -> Any:
        over = self.value(statement.iter)
        if statement.orelse or may_leave(statement) or _breaks(statement):
            self.refuse(statement, "break, continue, else and return are not possible in a loop")
        if isinstance(over, Node | Condition) or not hasattr(over, "__iter__"):
            self.refuse(statement, "a loop goes over what does not depend on the number, such as range(3)")
        for one in over:
            self._assign(statement.target, one)
            self.run(statement.body)
        return self.run(rest)


def may_leave(statement: ast.stmt) -> bool:
    return any(isinstance(node, ast.Return) for node in ast.walk(statement))


def _breaks(statement: ast.stmt) -> bool:
    return any(isinstance(node, ast.Break | ast.Continue) for node in ast.walk(statement))
