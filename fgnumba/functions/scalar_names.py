"""Which functions and operators may meet the number of a function of one number, and what they are called."""

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from fgnumba.errors import printable

_BY_NAME = {
    "math": {
        **{
            name: name
            for name in (
                *("exp", "exp2", "expm1", "log2", "log10", "log1p", "sqrt", "cbrt", "sin", "cos", "tan"),
                *("sinh", "cosh", "tanh", "erf", "erfc", "floor", "ceil", "trunc", "copysign", "degrees"),
                *("radians", "hypot"),
            )
        },
        **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
        "fabs": "absolute",
        "pow": "power",
    },
    "numpy": {
        name: name
        for name in (
            *(
                "exp",
                "exp2",
                "expm1",
                "log",
                "log2",
                "log10",
                "log1p",
                "sqrt",
                "cbrt",
                "square",
                "reciprocal",
            ),
            *(
                "sin",
                "cos",
                "tan",
                "arcsin",
                "arccos",
                "arctan",
                "sinh",
                "cosh",
                "tanh",
                "arcsinh",
                "arccosh",
            ),
            *(
                "arctanh",
                "absolute",
                "sign",
                "floor",
                "ceil",
                "trunc",
                "copysign",
                "degrees",
                "radians",
                "hypot",
            ),
            *("power", "maximum", "minimum", "logaddexp", "heaviside", "negative", "positive", "add"),
            *("subtract", "multiply", "divide", "remainder", "floor_divide"),
        )
    },
}
FUNCTIONS: dict[Any, str] = {
    **{getattr(math, own): name for own, name in _BY_NAME["math"].items() if hasattr(math, own)},
    **{getattr(np, own): name for own, name in _BY_NAME["numpy"].items()},
    abs: "absolute",
    pow: "power",
}
"""The functions that may be called with the number, and their names in the table of partial derivatives."""

NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
AS_THEY_ARE = (float, np.float32, np.float64)
KNOWN_CALLS = (range, len, float, int, tuple, list, enumerate, zip, reversed, sum, round, *AS_THEY_ARE)
OPERATORS = {
    **{ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide", ast.Pow: "power"},
    **{ast.Mod: "remainder", ast.FloorDiv: "floor_divide"},
}
KNOWN_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv},
    **{ast.Pow: operator.pow, ast.Mod: operator.mod, ast.FloorDiv: operator.floordiv},
    **{ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor},
    **{ast.LShift: operator.lshift, ast.RShift: operator.rshift, ast.MatMult: operator.matmul},
}
KNOWN_UNARY: dict[type, Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
KNOWN_SIGNS: dict[type, Callable[[Any, Any], Any]] = {
    **{ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge},
    **{ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Is: operator.is_, ast.IsNot: operator.is_not},
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
SIGNS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}

ARITY = {
    **dict.fromkeys(("power", "copysign", "hypot", "maximum", "minimum", "logaddexp", "heaviside"), 2),
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "remainder", "floor_divide"), 2),
}
POSSIBLE = "exp, log, sqrt, pow, sin, cos, tan, their kin, tanh, erf, abs, floor, min, max and where are"
"""What is possible, for messages."""


def is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def only_computes(function: Any) -> bool:
    """Return whether a function may be called with what is known: it only computes."""
    return (
        any(function is one for one in (*KNOWN_CALLS, max, min, np.where))
        or isinstance(function, np.ufunc)
        or getattr(function, "__module__", None) == "math"
    )


def named_function(function: Any) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", None)
    if name is None:
        return printable(repr(function))[:80]
    return name if module in (None, "builtins") else f"{module}.{name}"


_WORDS = {
    ast.While: "a while loop",
    ast.FunctionDef: "a function within it",
    ast.ClassDef: "a class",
    ast.Lambda: "a lambda",
    ast.With: "with",
    ast.Try: "try",
    ast.Raise: "raise",
    ast.Assert: "assert",
    ast.Delete: "del",
    ast.Global: "global",
    ast.Nonlocal: "nonlocal",
    ast.Import: "import",
    ast.ImportFrom: "import",
    ast.Expr: "an expression as a statement",
    ast.Break: "break",
    ast.Continue: "continue",
    ast.ListComp: "a comprehension",
    ast.GeneratorExp: "a generator",
    ast.JoinedStr: "an f-string",
    ast.NamedExpr: ":=",
    ast.Dict: "a dictionary",
    ast.MatMult: "@",
}


def called(node: ast.AST) -> str:
    """Return what a piece of source is called in messages."""
    return _WORDS.get(type(node), type(node).__name__)
