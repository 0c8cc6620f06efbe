"""Writes statements of Numba's intermediate representation: variables, constants, calls and arithmetic."""

import operator
from functools import cache
from typing import Any

import numpy as np
from numba.core import ir, types

from fgnumba.functions.carriers import carries
from fgnumba.functions.tangents import Tangents, vector_of
from fgnumba.functions.zeros import zero_list, zeros_beside

zero_vector = cache(vector_of)


class Writer:
    """Appends statements to a block, all at one place of the source.

    Parameters
    ----------
    scope : numba.core.ir.Scope
        The scope of all variables.
    vectors : Tangents or None
        The vectors in which several tangents travel; None for one tangent.
    tangent_dispatcher : callable
        Returns the Numba function that is the tangent of another.
    """

    def __init__(self, scope: ir.Scope, vectors: Tangents | None, tangent_dispatcher: Any) -> None:
        self.scope, self.vectors, self.tangent_dispatcher = scope, vectors, tangent_dispatcher
        self.body: list[Any] = []
        self.loc = ir.unknown_loc
        self._count = 0

    def variable(self, name: str) -> ir.Var:
        """Return the variable of this name."""
        return self.scope.get_or_define(name, self.loc)

    def new(self, name: str = "t") -> ir.Var:
        """Return a variable that no other statement names."""
        self._count += 1
        return self.variable(f"${name}.{self._count}")

    def assign(self, value: Any, target: ir.Var | None = None) -> ir.Var:
        """Write an assignment and return its target."""
        target = self.new() if target is None else target
        self.body.append(ir.Assign(value, target, self.loc))
        return target

    def constant(self, value: Any) -> ir.Var:
        """Write a constant."""
        if isinstance(value, np.generic):
            return self.assign(ir.Global(f"constant_{value}", value, self.loc))
        return self.assign(ir.Const(value, self.loc))

    def number(self, value: float, kind: types.Type) -> ir.Var:
        """Write a constant as a number of the given type, or as a float if that is no float."""
        if kind in (types.float32, types.complex64):
            return self.constant(np.float32(value))
        return self.constant(float(value))

    def call(self, function: Any, *arguments: ir.Var, named: Any = ()) -> ir.Var:
        """Write a call of a Python object that Numba knows."""
        name = getattr(function, "__name__", type(function).__name__)
        found = self.assign(ir.Global(name, function, self.loc))
        return self.assign(ir.Expr.call(found, list(arguments), tuple(named), self.loc))

    def binary(self, function: Any, first: ir.Var, second: ir.Var) -> ir.Var:
        """Write an operation of two operands."""
        return self.assign(ir.Expr.binop(function, first, second, self.loc))

    def negative(self, operand: ir.Var) -> ir.Var:
        """Write a change of sign."""
        return self.assign(ir.Expr.unary(operator.neg, operand, self.loc))

    def item(self, container: ir.Var, index: int) -> ir.Var:
        """Write a member of a tuple."""
        return self.assign(ir.Expr.static_getitem(container, index, None, self.loc))

    def members(self, *items: ir.Var) -> ir.Var:
        """Write a tuple."""
        return self.assign(ir.Expr.build_tuple(list(items), self.loc))

    def zero(self, variable: ir.Var, kind: types.Type) -> ir.Var:
        """Write the zero tangent of a value of this type; None if it carries nothing."""
        kind = types.unliteral(kind)
        if isinstance(kind, types.BaseTuple):
            members = [
                self.zero(self.item(variable, index) if carries(member) else variable, member)
                for index, member in enumerate(kind.types)
            ]
            return self.members(*members)
        if isinstance(kind, types.Array) and carries(kind):
            return self.call(zeros_beside, variable, self.zero(variable, kind.dtype))
        if isinstance(kind, types.List) and carries(kind):
            return self.call(zero_list, variable, self.zero(variable, _number_in(kind)))
        if isinstance(kind, types.Float) and self.vectors is not None:
            return self.call(zero_vector(kind, self.vectors.count, self.vectors.collapsed))
        if isinstance(kind, types.Complex):
            return self.constant(np.complex64(0) if kind == types.complex64 else 0j)
        if isinstance(kind, types.Float):
            return self.number(0.0, kind)
        return self.constant(None)


def _number_in(kind: types.Type) -> types.Type:
    """Return the type of the numbers in nested lists and arrays."""
    return _number_in(kind.dtype) if isinstance(kind, (types.List, types.Array)) else kind
