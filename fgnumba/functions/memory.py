"""Memory: which variables of a function may name the same arrays, and which arrays it writes to.

What is written through one name is read through another, so tangents must follow all of them. A function that has no
rule here might return a view of any argument, keep one in another, and write to all.
"""

import operator
from typing import Any

import numpy as np
from numba.core import ir, types

from fgnumba.functions.called import function_called
from fgnumba.functions.carriers import holds_arrays
from fgnumba.functions.names import NAMES
from fgnumba.functions.partials import SCALAR_FUNCTIONS
from fgnumba.functions.registry import RULES

ITEMS = frozenset(("getitem", "static_getitem", "typed_getitem"))
# They return their argument where it is an array of the right kind, or a view of it.
SHARING = (np.asarray, np.real, np.imag)


def follow_memory(activity: Any, statement: Any) -> None:
    """Join variables that name the same memory because of a statement, and note the memory that it writes to.

    Calls of functions under ``@njit`` are left out, because they are analysed themselves.
    """
    if isinstance(statement, ir.Assign):
        _assign(activity, statement.target, statement.value)
    elif isinstance(statement, (ir.SetItem, ir.StaticSetItem, ir.SetAttr, ir.DelItem)):
        _store(activity, statement.target, getattr(statement, "value", None))
    elif isinstance(statement, ir.StoreMap):
        _store(activity, statement.dct, statement.value)


def _store(activity: Any, target: ir.Var, value: Any) -> None:
    activity.written.add(target.name)
    # A store into an array copies; anything else keeps what it is given.
    if isinstance(value, ir.Var) and not isinstance(activity.kind(target), types.Array):
        together(activity, [target, value])


def _assign(activity: Any, target: ir.Var, value: Any) -> None:
    if not holds_arrays(activity.kind(target)) and not _is_call(value):
        return
    if isinstance(value, ir.Arg):
        activity.join(f"arg.{value.name}", target.name)
    elif isinstance(value, ir.Var):
        together(activity, [value, target])
    elif _is_call(value):
        _call(activity, target, value)
    elif isinstance(value, ir.Expr):
        _expression(activity, target, value)


def _is_call(value: Any) -> bool:
    return isinstance(value, ir.Expr) and value.op == "call"


def _expression(activity: Any, target: ir.Var, value: ir.Expr) -> None:
    array = isinstance(activity.kind(target), types.Array)
    if value.op == "inplace_binop":
        activity.written.add(value.lhs.name)
        together(activity, [value.lhs, target] if array else [value.lhs, value.rhs, target])
    elif value.op in ITEMS:
        # An index is read; its memory is not kept.
        together(activity, [value.value, target])
    elif not (array and value.op in ("binop", "unary", "arrayexpr")):
        together(activity, [*value.list_vars(), target])


def _call(activity: Any, target: ir.Var, value: ir.Expr) -> None:
    kind = activity.kind(value.func)
    if isinstance(kind, types.Dispatcher) and not isinstance(kind, types.ObjModeDispatcher):
        return
    function, owner = function_called(activity, value)
    operands = [*([] if owner is None else [owner]), *value.args, *dict(value.kws).values()]
    operands += [] if value.vararg is None else [value.vararg]
    rule = RULES.get(function)
    if rule is not None and not rule.views and function not in SHARING:
        return
    name = NAMES.get(function)
    if name is not None and len(operands) <= len(SCALAR_FUNCTIONS[name].arguments):
        return
    together(activity, [*operands, target])
    if rule is None and function not in (tuple, operator.getitem):
        activity.written.update(one.name for one in operands)


def together(activity: Any, variables: list[ir.Var]) -> None:
    """Join those of some variables that name memory."""
    names = [one.name for one in variables if holds_arrays(activity.kind(one))]
    for name in names[1:]:
        activity.join(names[0], name)
