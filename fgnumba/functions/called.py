"""Calls among typed statements: which function is called, and with which arguments."""

import inspect
from typing import Any

from numba import typeof
from numba.core import ir, types

from fgnumba.functions.registry import METHODS


def function_called(activity: Any, value: ir.Expr) -> tuple[Any, ir.Var | None]:
    """Return the function that an expression calls, and the array of whose methods it is one."""
    kind = activity.typed.typemap[value.func.name]
    if isinstance(kind, types.BoundFunction):
        definition = activity.definition(value.func)
        method = kind.typing_key if isinstance(kind.typing_key, str) else definition.attr
        return METHODS.get((type(kind.this).__name__, definition.attr), method), definition.value
    if isinstance(kind, types.Dispatcher):
        return kind.dispatcher, None
    if isinstance(kind, (types.NumberClass, types.NamedTupleClass)):
        return kind, None
    if isinstance(kind, types.Function):
        return kind.typing_key, None
    return kind, None


def arguments_of(value: ir.Expr, owner: ir.Var | None) -> tuple[list[Any], dict[str, Any]]:
    """Return a call's positional arguments, a method's array first, and its arguments by name."""
    return [*([] if owner is None else [owner]), *value.args], dict(value.kws)


def bound(dispatcher: Any, positional: list[Any], named: dict[str, Any]) -> list[Any]:
    """Return one value for each parameter of a Python function; defaults where a call gives none."""
    filled = inspect.signature(dispatcher.py_func).bind(*positional, **named)
    filled.apply_defaults()
    return list(filled.arguments.values())


def kind_of(activity: Any, value: Any) -> types.Type:
    """Return the type of an argument of a call: of a variable, or of a default."""
    if isinstance(value, ir.Var):
        return types.unliteral(activity.kind(value))
    return typeof(value)
