"""The statements of a tangent as text, in the order of the function's own lines."""

import linecache
from typing import Any

from numba.core import ir

from fgnumba.functions.transform import PRIME, VERSION, Transformation

_SIGNS = {
    **{
        "add": "+",
        "sub": "-",
        "mul": "*",
        "truediv": "/",
        "pow": "**",
        "matmul": "@",
        "mod": "%",
        "floordiv": "//",
    },
    **{"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "and_": "&", "or_": "|"},
    **{
        "iadd": "+",
        "isub": "-",
        "imul": "*",
        "itruediv": "/",
        "ipow": "**",
        "neg": "-",
        "pos": "+",
        "not_": "not ",
    },
}


def written(transformation: Transformation, function: Any) -> str:
    """Return the text of a tangent: each line of the function as a comment, and below it what it became.

    Temporary variables that are read once stand where they are read.
    """
    blocks = transformation.blocks()
    names = ", ".join(transformation.source.arg_names)
    marked = ", ".join(
        name + "′"
        for name, on in zip(transformation.source.arg_names, transformation.activity.given, strict=True)
        if on
    )
    text = _Text(blocks)
    lines = [f"def {function.__name__}_tangent({names}; {marked}):"]
    last = None
    for label, block in sorted(blocks.items()):
        body = []
        for statement in block.body:
            shown = text.statement(statement)
            if shown is None:
                continue
            if statement.loc.line != last:
                last = statement.loc.line
                own = linecache.getline(function.__code__.co_filename, last).strip()
                body.append(f"    # {last}: {own}" if own else f"    # line {last}")
            body.append(f"    {shown}")
        lines += [f"  block {label}:", *body]
    return "\n".join(lines).replace(PRIME, "′").replace(VERSION, ".")


class _Text:
    """Expressions as text, with temporary variables in their places."""

    def __init__(self, blocks: dict[int, ir.Block]) -> None:
        self.values: dict[str, Any] = {}
        reads: dict[str, int] = {}
        writes: dict[str, int] = {}
        for block in blocks.values():
            for statement in block.body:
                own = statement.target.name if isinstance(statement, ir.Assign) else None
                if own is not None:
                    writes[own] = writes.get(own, 0) + 1
                    self.values[own] = statement.value
                for variable in statement.list_vars():
                    if variable.name != own:
                        reads[variable.name] = reads.get(variable.name, 0) + 1
        self.inlined = {
            name
            for name, value in self.values.items()
            if name.startswith("$") and writes[name] == 1 and (reads.get(name, 0) <= 1 or _is_name(value))
        }

    def statement(self, statement: Any) -> str | None:
        """Return a statement as text; None if it stands where its value is read."""
        if isinstance(statement, ir.Assign):
            if statement.target.name in self.inlined:
                return None
            return f"{self.name(statement.target)} = {self.value(statement.value)}"
        if isinstance(statement, ir.SetItem):
            return f"{self.of(statement.target)}[{self.of(statement.index)}] = {self.of(statement.value)}"
        if isinstance(statement, ir.StaticSetItem):
            return f"{self.of(statement.target)}[{_index(statement.index)}] = {self.of(statement.value)}"
        if isinstance(statement, ir.Return):
            return f"return {self.of(statement.value)}"
        if isinstance(statement, ir.Branch):
            return f"if {self.of(statement.cond)}: go to block {statement.truebr}, else {statement.falsebr}"
        if isinstance(statement, ir.Jump):
            return f"go to block {statement.target}"
        return str(statement)

    def name(self, variable: ir.Var) -> str:
        """Return a variable's name."""
        return variable.name.lstrip("$")

    def of(self, variable: Any) -> str:
        """Return a variable, or its value if that is read here alone."""
        if not isinstance(variable, ir.Var):
            return str(variable)
        if variable.name in self.inlined:
            return self.value(self.values[variable.name])
        return self.name(variable)

    def value(self, value: Any) -> str:
        """Return the right-hand side of an assignment."""
        if isinstance(value, ir.Var):
            return self.of(value)
        if isinstance(value, ir.Const):
            return repr(value.value)
        if isinstance(value, ir.Global | ir.FreeVar):
            return str(value.value) if isinstance(value.value, int | float) else str(value.name)
        if isinstance(value, ir.Arg):
            return str(value.name)
        return self.expression(value)

    def expression(self, value: ir.Expr) -> str:
        """Return an expression."""
        if value.op in ("binop", "inplace_binop"):
            sign = _SIGNS.get(value.fn.__name__, value.fn.__name__)
            return f"({self.of(value.lhs)} {sign} {self.of(value.rhs)})"
        if value.op == "unary":
            return f"{_SIGNS.get(value.fn.__name__, value.fn.__name__)}{self.of(value.value)}"
        if value.op == "call":
            named = [f"{name}={self.of(one)}" for name, one in value.kws]
            return f"{self.of(value.func)}({', '.join([*map(self.of, value.args), *named])})"
        if value.op == "getattr":
            return f"{self.of(value.value)}.{value.attr}"
        if value.op == "getitem":
            return f"{self.of(value.value)}[{self.of(value.index)}]"
        if value.op == "static_getitem":
            return f"{self.of(value.value)}[{_index(value.index)}]"
        if value.op in ("build_tuple", "build_list"):
            inside = ", ".join(map(self.of, value.items))
            return f"({inside})" if value.op == "build_tuple" else f"[{inside}]"
        if value.op in ("cast", "exhaust_iter"):
            return self.of(value.value)
        return f"{value.op}({', '.join(self.of(one) for one in value.list_vars())})"


def _is_name(value: Any) -> bool:
    return isinstance(value, ir.Global | ir.FreeVar | ir.Const)


def _index(index: Any) -> str:
    if isinstance(index, slice):
        parts = [index.start, index.stop] + ([index.step] if index.step is not None else [])
        return ":".join("" if part is None else str(part) for part in parts)
    return str(index)
