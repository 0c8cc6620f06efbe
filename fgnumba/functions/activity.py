"""Activity: which variables of a function depend on an argument that carries a tangent.

A variable is active if it can carry a tangent and is computed from an active one. Arrays are memory: variables that
name the same memory, views among them, form a group, which is active as a whole as soon as an active number is written
to one of them. Statements are gone through until nothing changes, so that loops and branches need no order.

An operation on an active variable that has no rule is an error here, before anything is compiled.
"""

import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numba.core import ir, types

from fgnumba.errors import DifferentiationError
from fgnumba.functions.called import arguments_of, bound, function_called, kind_of
from fgnumba.functions.carriers import carries, carries_nothing, hides, holds_arrays
from fgnumba.functions.memory import ITEMS, follow_memory, together
from fgnumba.functions.names import NAMES
from fgnumba.functions.partials import ANALYTIC, SCALAR_FUNCTIONS
from fgnumba.functions.registry import REAL_ONLY, RULES
from fgnumba.functions.typed import TypedFunction, typed_function
from fgnumba.functions.zero_derivatives import gives_no_number, is_constant, is_zero

# Expressions that move values and keep what they name.
MOVES = frozenset(("getiter", "iternext", "pair_first", "exhaust_iter", "cast", "build_tuple", "build_list"))
ARRAY_VIEWS = frozenset(("T", "real", "flat"))
_SIZES = frozenset(("shape", "size", "ndim", "dtype", "itemsize", "strides", "nbytes"))


@dataclass
class Activity:
    """What is active in one function, for given types of its arguments and given active arguments.

    Parameters
    ----------
    typed : TypedFunction
        The function.
    function : callable
        The Python function, for messages.
    given : tuple of bool
        Which arguments are active.
    """

    typed: TypedFunction
    function: Any
    given: tuple[bool, ...]
    parents: dict[str, str] = field(default_factory=dict)
    roots: set[str] = field(default_factory=set)
    changed: bool = True
    returns_active: bool = False
    returned: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)

    def group(self, name: str) -> str:
        """Return the variable that stands for all that name the same memory."""
        while name in self.parents:
            name = self.parents[name]
        return name

    def is_active(self, variable: Any) -> bool:
        """Return whether a variable carries a tangent."""
        return isinstance(variable, ir.Var) and self.group(variable.name) in self.roots

    def active_argument(self, index: int) -> bool:
        """Return whether an argument is active: given so, or written to with an active value."""
        return self.given[index] or self.group(f"arg.{self.typed.func_ir.arg_names[index]}") in self.roots

    def writes_argument(self, index: int) -> bool:
        """Return whether the function may write to an argument's memory."""
        own = self.group(f"arg.{self.typed.func_ir.arg_names[index]}")
        return any(self.group(name) == own for name in self.written)

    def argument_groups(self) -> list[str]:
        """Return for each argument the variable that stands for its memory."""
        return [self.group(f"arg.{name}") for name in self.typed.func_ir.arg_names]

    def aliased_arguments(self) -> tuple[bool, ...]:
        """Return for each argument whether the value that is returned may name its memory."""
        groups = {self.group(name) for name in self.returned}
        return tuple(group in groups for group in self.argument_groups())

    def kind(self, variable: ir.Var) -> types.Type:
        """Return a variable's type."""
        return self.typed.typemap[variable.name]

    def activate(self, name: str) -> None:
        """Note that a variable is active."""
        root = self.group(name)
        if root not in self.roots:
            self.roots.add(root)
            self.changed = True

    def join(self, first: str, second: str) -> None:
        """Note that two variables may name the same memory."""
        one, other = self.group(first), self.group(second)
        if one != other:
            self.parents[other] = one
            self.changed = True
            if other in self.roots:
                self.roots.discard(other)
                self.roots.add(one)

    def definition(self, variable: ir.Var) -> ir.Expr:
        """Return the expression whose value a variable has."""
        for statement in statements(self.typed):
            if isinstance(statement, ir.Assign) and statement.target.name == variable.name:
                if isinstance(statement.value, ir.Var):
                    return self.definition(statement.value)
                return statement.value
        raise AssertionError(f"{variable.name} has no definition")

    def refuse(self, what: str, loc: ir.Loc) -> NoReturn:
        """Raise the error of an operation that has no rule."""
        raise DifferentiationError(
            f"{self.function.__qualname__}: {what} has no derivative rule ({loc.filename}:{loc.line})"
        )


def statements(typed: TypedFunction) -> Iterator[Any]:
    """Yield all statements of a function."""
    for block in typed.func_ir.blocks.values():
        yield from block.body


def analysed(typed: TypedFunction, function: Any, given: tuple[bool, ...]) -> Activity:
    """Return the activity of a function's variables.

    Raises
    ------
    DifferentiationError
        An active variable meets an operation that has no rule; the message names function, file and line.
    """
    activity = Activity(typed, function, given)
    for index, active in enumerate(given):
        if active:
            activity.activate(f"arg.{typed.func_ir.arg_names[index]}")
    while activity.changed:
        activity.changed = False
        for statement in statements(typed):
            _flow(activity, statement)
    return activity


_KNOWN: dict[Any, Activity] = {}


def activity_of(dispatcher: Any, kinds: tuple[types.Type, ...], given: tuple[bool, ...]) -> Activity:
    """Return the activity of a function that another calls; each is analysed once for the same types.

    Raises
    ------
    DifferentiationError
        As :func:`analysed`; and if the function calls itself.
    """
    key = dispatcher, kinds, given
    if key not in _KNOWN:
        if key in _OPEN:
            raise DifferentiationError(
                f"{dispatcher.py_func.__qualname__}: it calls itself; a function that is differentiated must not "
                f"({dispatcher.py_func.__code__.co_filename}:{dispatcher.py_func.__code__.co_firstlineno})"
            )
        _OPEN.add(key)
        try:
            _KNOWN[key] = analysed(typed_function(dispatcher, kinds), dispatcher.py_func, given)
        finally:
            _OPEN.discard(key)
    return _KNOWN[key]


_OPEN: set[Any] = set()


def _flow(activity: Activity, statement: Any) -> None:
    follow_memory(activity, statement)
    if isinstance(statement, ir.Assign):
        _assign(activity, statement)
        kind = activity.kind(statement.target)
        if hides(kind) and activity.is_active(statement.target):
            activity.refuse(f"a value of type {kind}", statement.loc)
    elif isinstance(statement, (ir.SetItem, ir.StaticSetItem)):
        _store(activity, statement)
    elif isinstance(statement, ir.Return):
        activity.returned.add(statement.value.name)
        if activity.is_active(statement.value):
            activity.returns_active = True
    elif isinstance(statement, (ir.DelItem, ir.SetAttr, ir.StoreMap)) and any(
        activity.is_active(variable) for variable in statement.list_vars()
    ):
        activity.refuse(type(statement).__name__, statement.loc)


def _store(activity: Activity, statement: Any) -> None:
    if not activity.is_active(statement.value):
        return
    target = activity.kind(statement.target)
    if carries(target):
        activity.activate(statement.target.name)
    elif not carries_nothing(target):
        activity.refuse(f"an item of {target}", statement.loc)


def _assign(activity: Activity, statement: ir.Assign) -> None:
    target, value = statement.target, statement.value
    if isinstance(value, (ir.Arg, ir.Var)):
        source = f"arg.{value.name}" if isinstance(value, ir.Arg) else value.name
        if activity.group(source) in activity.roots and carries(activity.kind(target)):
            activity.activate(target.name)
    elif isinstance(value, ir.Yield):
        activity.refuse("a generator", statement.loc)
    elif isinstance(value, ir.Expr):
        _expression(activity, target, value, statement.loc)


def _expression(activity: Activity, target: ir.Var, value: ir.Expr, loc: ir.Loc) -> None:
    operands = value.list_vars()
    kind = activity.kind(target)
    if value.op == "call":
        _call(activity, target, value, loc)
        return
    if not any(activity.is_active(operand) for operand in operands):
        return
    _checked_expression(activity, value, kind, loc)
    if carries(kind) and not (value.op in ITEMS and not activity.is_active(value.value)):
        if value.op in ("binop", "unary", "inplace_binop") and is_constant(value.fn):
            return
        activity.activate(target.name)


def _checked_expression(activity: Activity, value: ir.Expr, kind: types.Type, loc: ir.Loc) -> None:
    """Refuse an expression of active operands that has no rule."""
    if value.op in MOVES or value.op in ITEMS or value.op in ("pair_second", "arrayexpr"):
        if value.op == "arrayexpr":
            _checked_tree(activity, value.expr, value.list_vars(), loc)
        return
    if value.op == "getattr":
        owner = activity.kind(value.value)
        attributes = _SIZES | ARRAY_VIEWS if isinstance(owner, types.Array) else frozenset()
        if isinstance(owner, types.BaseNamedTuple):
            attributes = frozenset(owner.fields)
        bound = isinstance(kind, types.BoundFunction)
        complex_part = isinstance(owner, types.Complex) and value.attr in ("real", "imag")
        if bound or complex_part or value.attr in attributes or carries_nothing(kind):
            return
        activity.refuse(f"attribute {value.attr!r} of {owner}", loc)
    if value.op in ("binop", "inplace_binop", "unary"):
        if isinstance(kind, types.BaseTuple) and value.fn is operator.add:
            return
        numbers = isinstance(kind, (types.Number, types.Array))
        if carries_nothing(kind) or (numbers and (value.fn in NAMES or value.fn in RULES)):
            _check_complex(activity, value.fn, value.list_vars(), loc)
            return
        activity.refuse(f"operator {value.fn.__name__}", loc)
    if not carries_nothing(kind):
        activity.refuse(f"{value.op} of a value that carries a tangent", loc)


def _check_complex(activity: Activity, function: Any, operands: list[ir.Var], loc: ir.Loc) -> None:
    """Refuse a function of complex numbers whose partial derivatives in the table are for real ones."""
    name = NAMES.get(function)
    if function in REAL_ONLY:
        name = function.__name__
    elif name is None or name in ANALYTIC or is_constant(function):
        return
    for operand in operands:
        kind = activity.kind(operand)
        if isinstance(kind.dtype if isinstance(kind, types.Array) else kind, types.Complex):
            activity.refuse(f"{name} of complex numbers", loc)


def _checked_tree(activity: Activity, tree: Any, leaves: list[ir.Var], loc: ir.Loc) -> None:
    """Refuse an array expression if a function in it has no rule."""
    if not isinstance(tree, tuple):
        return
    function, operands = tree
    if function not in NAMES and not gives_no_number(function):
        activity.refuse(f"{getattr(function, '__name__', function)} of arrays", loc)
    _check_complex(activity, function, leaves, loc)
    for operand in operands:
        _checked_tree(activity, operand, leaves, loc)


def _call(activity: Activity, target: ir.Var, value: ir.Expr, loc: ir.Loc) -> None:
    function, owner = function_called(activity, value)
    if isinstance(activity.kind(value.func), types.ObjModeDispatcher):
        if any(activity.is_active(operand) for operand in value.list_vars()):
            activity.refuse("a block in object mode", loc)
        return
    if isinstance(activity.kind(value.func), types.Dispatcher):
        _call_of_function(activity, target, value, loc)
        return
    positional, named = arguments_of(value, owner)
    operands = [*positional, *named.values(), *([value.vararg] if value.vararg is not None else [])]
    rule = RULES.get(function)
    active = [operand for operand in operands if activity.is_active(operand)]
    if not active:
        return
    if value.vararg is not None:
        activity.refuse("a call with *arguments", loc)
    kind = activity.kind(target)
    if _takes_result(function, positional):
        activity.refuse(f"{_shown(function)} with an array for its result", loc)
    if is_zero(function, kind, rule):
        return
    if not (
        rule is not None
        or isinstance(function, types.NamedTupleClass)
        or (_is_scalar_call(activity, function, positional) and not named)
        or (isinstance(function, types.NumberClass) and isinstance(function.instance_type, types.Number))
        or function in (float, complex, tuple)
    ):
        activity.refuse(_shown(function), loc)
    if rule is None or function in REAL_ONLY:
        _check_complex(activity, function, operands, loc)
    if carries(kind):
        activity.activate(target.name)


def _takes_result(function: Any, positional: list[Any]) -> bool:
    """Return whether a call names an array to write the result to."""
    if isinstance(function, np.ufunc):
        return len(positional) > function.nin
    return function in (np.round, np.around) and len(positional) > 2


def _is_scalar_call(activity: Activity, function: Any, positional: list[Any]) -> bool:
    """Return whether a call is one of the table's functions, with no array in which to put the result."""
    name = NAMES.get(function)
    if name is None or any(isinstance(activity.kind(one), types.Array) for one in positional):
        return False
    count = len(SCALAR_FUNCTIONS[name].arguments)
    return len(positional) == count or (function in (max, min) and len(positional) > 1)


def _shown(function: Any) -> str:
    module = getattr(function, "__module__", None)
    name = getattr(function, "__name__", None) or str(function)
    return f"{module}.{name}" if module and module != "builtins" else name


def _call_of_function(activity: Activity, target: ir.Var, value: ir.Expr, loc: ir.Loc) -> None:
    dispatcher = activity.typed.typemap[value.func.name].dispatcher
    if value.vararg is not None:
        if activity.is_active(value.vararg):
            activity.refuse(f"a call of {dispatcher.py_func.__name__} with *arguments", loc)
        return
    values = bound(dispatcher, *arguments_of(value, None))
    arrays = any(isinstance(one, ir.Var) and holds_arrays(activity.kind(one)) for one in values)
    given = tuple(activity.is_active(one) for one in values)
    if not any(given) and not arrays:
        return
    kinds = tuple(kind_of(activity, one) for one in values)
    if any(isinstance(one, tuple) and not isinstance(one, ir.Var) and one for one in values):
        activity.refuse(f"a call of {dispatcher.py_func.__name__}, which takes *arguments,", loc)
    inner = activity_of(dispatcher, kinds, given)
    aliased, groups = inner.aliased_arguments(), inner.argument_groups()
    for index, one in enumerate(values):
        if not isinstance(one, ir.Var):
            continue
        if inner.active_argument(index) and not given[index]:
            activity.activate(one.name)
        if inner.writes_argument(index):
            activity.written.add(one.name)
        if aliased[index]:
            together(activity, [one, target])
        together(
            activity,
            [
                one,
                *(
                    other
                    for other, group in zip(values, groups, strict=True)
                    if group == groups[index] and isinstance(other, ir.Var)
                ),
            ],
        )
    if inner.returns_active and carries(activity.kind(target)):
        activity.activate(target.name)
