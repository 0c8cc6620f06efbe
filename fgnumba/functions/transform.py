"""Writes a function's tangent: beside each statement, the statement that computes the tangent of its value.

    y = a * b          y = a * b;  dy = da * b + db * a

The result is a function of the arguments and their tangents, in Numba's intermediate representation, with the blocks,
loops and branches of the first. It can be transformed once more, for derivatives of second order.
"""

from typing import Any

from numba.core import ir, types

from fgnumba.functions.activity import Activity
from fgnumba.functions.array_expressions import in_place_kernel, write_array_expression
from fgnumba.functions.memory import ITEMS
from fgnumba.functions.names import NAMES
from fgnumba.functions.registry import RULES
from fgnumba.functions.rules import tangent_of_call
from fgnumba.functions.scalars import write_scalar
from fgnumba.functions.tangents import Tangents, in_any_order
from fgnumba.functions.writer import Writer
from fgnumba.functions.written_calls import write_call

# Letters, because Numba writes loops that run in parallel as Python, with the variables' names.
PRIME, VERSION = "\N{MODIFIER LETTER PRIME}", "\N{MODIFIER LETTER HALF TRIANGULAR COLON}"


class Transformation:
    """The tangent of one function for given types.

    Parameters
    ----------
    activity : Activity
        The function and its active variables.
    names : list of str
        A name for each argument's tangent.
    vectors : Tangents or None
        The vectors in which several tangents travel; None for one tangent.
    tangent_dispatcher : callable
        Returns the dispatcher of another function's tangent.
    parallel : bool
        Whether loops over the elements of arrays may run on several threads.
    """

    def __init__(
        self,
        activity: Activity,
        names: list[str],
        vectors: Tangents | None,
        tangent_dispatcher: Any,
        parallel: bool,
    ) -> None:
        self.activity, self.vectors, self.parallel = activity, vectors, parallel
        self.names = names
        self.tangent_dispatcher = tangent_dispatcher
        self.source = activity.typed.func_ir
        self.scope = ir.Scope(None, self.source.loc)
        self.writer = Writer(self.scope, vectors, tangent_dispatcher)
        self.single = _assigned_once(activity)
        self.constants = _constants(self.single)
        # A tangent that is transformed once more has names with marks already: longer ones are new.
        self.mark = _unused(PRIME, activity)
        self.version = _unused(VERSION, activity)

    def blocks(self) -> dict[int, ir.Block]:
        """Return the blocks of the tangent's function."""
        result = {}
        for label, block in self.source.blocks.items():
            self.writer.body = []
            for statement in block.body:
                if not isinstance(statement, ir.Del):
                    self.writer.loc = statement.loc
                    self.statement(statement)
            result[label] = ir.Block(self.scope, block.loc)
            result[label].body = self.writer.body
        return result

    # Variables.

    def primal(self, variable: ir.Var) -> ir.Var:
        """Return the variable of a value in the new function."""
        return self.writer.variable(self._renamed(variable))

    def _renamed(self, variable: ir.Var) -> str:
        # Numba numbers the versions of a variable by a dot, and gives new versions numbers of their own.
        name: str = variable.name
        return name.replace(".", self.version)

    def own(self, variable: ir.Var) -> ir.Var:
        """Return the variable of a tangent."""
        return self.writer.variable(self._renamed(variable) + self.mark)

    def active(self, variable: Any) -> bool:
        """Return whether a variable carries a tangent."""
        return self.activity.is_active(variable)

    def kind(self, variable: ir.Var) -> types.Type:
        """Return the type of a variable."""
        return self.activity.kind(variable)

    def tangent(self, variable: ir.Var, kind: types.Type | None = None) -> ir.Var:
        """Return a variable's tangent; zero if it carries none."""
        if self.active(variable):
            return self.own(variable)
        return self.writer.zero(self.primal(variable), self.kind(variable) if kind is None else kind)

    def optional(self, variable: Any) -> ir.Var | None:
        """Return a variable's tangent; None if it carries none."""
        return self.own(variable) if self.active(variable) else None

    # Statements.

    def statement(self, statement: Any) -> None:
        """Write a statement and, if its target is active, its tangent's."""
        if isinstance(statement, ir.Assign):
            self.assign(statement)
        elif isinstance(statement, (ir.SetItem, ir.StaticSetItem)):
            self.store(statement)
        elif isinstance(statement, ir.Return):
            self.give_back(statement)
        else:
            self.writer.body.append(self.copied(statement))

    def copied(self, statement: Any) -> Any:
        """Return a statement with the new function's variables."""
        loc = statement.loc
        if isinstance(statement, ir.Jump):
            return ir.Jump(statement.target, loc)
        if isinstance(statement, ir.Branch):
            return ir.Branch(self.primal(statement.cond), statement.truebr, statement.falsebr, loc)
        result = statement.__class__.__new__(statement.__class__)
        for name, value in vars(statement).items():
            setattr(result, name, _with_variables(value, self.primal))
        return result

    def assign(self, statement: ir.Assign) -> None:
        """Write an assignment."""
        target, value = statement.target, statement.value
        if isinstance(value, ir.Expr):
            if value.op == "null":
                return
            self.expression(target, value)
            return
        if isinstance(value, ir.Var):
            self.writer.assign(self.primal(value), self.primal(target))
            if self.active(target):
                self.writer.assign(self.tangent(value, self.kind(target)), self.own(target))
            return
        self.writer.assign(value, self.primal(target))
        if self.active(target):
            self.writer.assign(self._first_tangent(target, value), self.own(target))

    def _first_tangent(self, target: ir.Var, value: Any) -> Any:
        if isinstance(value, ir.Arg) and self.activity.given[value.index]:
            count = len(self.source.arg_names)
            given = ir.Arg(self.names[value.index], count + value.index, self.writer.loc)
            kind = self.kind(target)
            if isinstance(kind, types.Array) and kind.layout == "A":
                return self.writer.call(in_any_order, self.writer.assign(given))
            return given
        return self.writer.zero(self.primal(target), self.kind(target))

    def store(self, statement: Any) -> None:
        """Write a store into an array."""
        if self._is_in_place(statement):
            return
        self.writer.body.append(self.copied(statement))
        if not self.active(statement.target):
            return
        self._store_tangent(statement, self._stored(statement.value))

    def _is_in_place(self, statement: Any) -> bool:
        """Whether ``u[index] op= …`` stores a view where it is already, for which Numba would copy it twice."""
        change = self.single.get(statement.value.name)
        if not isinstance(change, ir.Expr) or change.op != "inplace_binop":
            return False
        view = self.single.get(change.lhs.name)
        if not isinstance(view, ir.Expr) or view.op not in ITEMS or view.value != statement.target:
            return False
        own = statement.index if isinstance(statement, ir.SetItem) else statement.index_var
        read = view.index if view.op == "getitem" else view.index_var
        basic = own is not None and not _has_array(self.kind(own))
        return basic and read == own and isinstance(self.kind(change.lhs), types.Array)

    def _stored(self, value: ir.Var) -> ir.Var:
        if self.active(value):
            return self.own(value)
        kind = self.kind(value)
        dtype = kind.dtype if isinstance(kind, types.Array) else kind
        return self.writer.zero(
            self.primal(value), dtype if isinstance(dtype, types.Float) else types.float64
        )

    def _store_tangent(self, statement: Any, value: ir.Var) -> None:
        target, loc = self.own(statement.target), statement.loc
        if isinstance(statement, ir.SetItem):
            self.writer.body.append(ir.SetItem(target, self.primal(statement.index), value, loc))
        else:
            index = self.primal(statement.index_var)
            self.writer.body.append(ir.StaticSetItem(target, statement.index, index, value, loc))

    def give_back(self, statement: ir.Return) -> None:
        """Write the return of a value with its tangent."""
        value = statement.value
        pair = self.writer.members(self.primal(value), self.tangent(value, self.activity.typed.return_type))
        result = self.writer.assign(ir.Expr.cast(pair, statement.loc))
        self.writer.body.append(ir.Return(result, statement.loc))

    # Expressions.

    def expression(self, target: ir.Var, value: ir.Expr) -> None:
        """Write the assignment of an expression."""
        if value.op == "call" and write_call(self, target, value):
            return
        if value.op == "arrayexpr":
            self.array_expression(target, value)
            return
        if value.op == "inplace_binop" and self.active(target) and isinstance(self.kind(target), types.Array):
            self.in_place(target, value)
            return
        self.writer.assign(self.copied_expression(value), self.primal(target))
        if self.active(target):
            self.writer.assign(self.tangent_of(target, value), self.own(target))

    def copied_expression(self, value: ir.Expr) -> ir.Expr:
        """Return an expression with the new function's variables."""
        members = {name: _with_variables(member, self.primal) for name, member in value._kws.items()}
        return ir.Expr(value.op, self.writer.loc, **members)

    def shadow(self, value: ir.Expr) -> ir.Expr:
        """Return the same expression of tangents; indices and counts stay."""
        members = {}
        for name, member in value._kws.items():
            change = self.primal if name in ("index", "index_var") else self.tangent
            members[name] = _with_variables(member, change)
        return ir.Expr(value.op, self.writer.loc, **members)

    def tangent_of(self, target: ir.Var, value: ir.Expr) -> Any:
        """Return the tangent of an expression that is no call."""
        if not any(self.active(operand) for operand in value.list_vars()):
            return self.writer.zero(self.primal(target), self.kind(target))
        if value.op in ("binop", "inplace_binop", "unary"):
            return self.operation(target, value)
        if value.op == "getattr" and isinstance(self.kind(value.value), types.BaseNamedTuple):
            index = self.kind(value.value).fields.index(value.attr)
            return ir.Expr.static_getitem(self.own(value.value), index, None, self.writer.loc)
        if value.op == "build_list":
            dtype = self.kind(target).dtype
            return ir.Expr.build_list(
                [self.tangent(one, self._member_kind(one, dtype)) for one in value.items], self.writer.loc
            )
        if value.op in ITEMS and not self.active(value.value):
            return self.writer.zero(self.primal(target), self.kind(target))
        return self.shadow(value)

    def _member_kind(self, member: ir.Var, dtype: types.Type) -> types.Type:
        """Return the type for a zero in a list of numbers, where an integer becomes a float."""
        return dtype if isinstance(dtype, types.Number) else self.kind(member)

    def operation(self, target: ir.Var, value: ir.Expr) -> Any:
        """Return the tangent of an operator."""
        operands = [value.value] if value.op == "unary" else [value.lhs, value.rhs]
        kind = self.kind(target)
        if isinstance(kind, types.BaseTuple):
            return self.shadow(value)
        if value.fn in RULES:
            values = [self.primal(one) for one in operands]
            return tangent_of_call(self, value.fn, values, {}, operands, {}, target)
        return write_scalar(
            self.writer,
            NAMES[value.fn],
            [self.primal(operand) for operand in operands],
            [self.optional(operand) for operand in operands],
            self.primal(target),
            types.unliteral(kind),
            self.constants.get(operands[-1].name) if len(operands) == 2 else None,
        )

    def array_expression(self, target: ir.Var, value: ir.Expr) -> None:
        """Write an array expression: one loop over the elements that computes values and tangents."""
        active = self.active(target)
        y, dy = write_array_expression(self, value.expr, self.kind(target), active)
        self.writer.assign(y, self.primal(target))
        if active:
            self.writer.assign(dy, self.own(target))

    def in_place(self, target: ir.Var, value: ir.Expr) -> None:
        """Write ``x op= y`` of an array: one loop that changes values and tangents."""
        kernel, tangent = in_place_kernel(self, value)
        self.writer.call(kernel, self.primal(value.lhs), self.primal(value.rhs), self.own(value.lhs), tangent)
        self.writer.assign(self.primal(value.lhs), self.primal(target))
        self.writer.assign(self.own(value.lhs), self.own(target))


def _unused(letter: str, activity: Activity) -> str:
    """Return a letter repeated as often as it is in no variable's name."""
    mark = letter
    while any(mark in name for name in activity.typed.typemap):
        mark += letter
    return mark


def _with_variables(value: Any, change: Any) -> Any:
    """Return a member of a statement with its variables replaced."""
    if isinstance(value, ir.Var):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_with_variables(member, change) for member in value) if _plain(value) else value
    return value


def _plain(value: Any) -> bool:
    return type(value) in (list, tuple)


def _has_array(kind: types.Type) -> bool:
    """Whether an index is an array, or has one among its members: what it reads is a copy."""
    if isinstance(kind, types.BaseTuple):
        return any(_has_array(member) for member in kind.types)
    return isinstance(kind, (types.Array, types.List))


def _assigned_once(activity: Activity) -> dict[str, Any]:
    """Return the values of the variables that are assigned once."""
    values: dict[str, list[Any]] = {}
    for block in activity.typed.func_ir.blocks.values():
        for statement in block.body:
            if isinstance(statement, ir.Assign):
                values.setdefault(statement.target.name, []).append(statement.value)
    return {name: definitions[0] for name, definitions in values.items() if len(definitions) == 1}


def _constants(single: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers that variables hold which are assigned once, from a constant."""
    return {
        name: value.value
        for name, value in single.items()
        if isinstance(value, (ir.Const, ir.Global, ir.FreeVar)) and type(value.value) in (int, float)
    }
