"""The source of a function: its tree, and its place in messages."""

import ast
import inspect
import textwrap
import types
from typing import Any, NoReturn

from fgnumba.errors import ConfigError, printable


class Source:
    """The source of a function: its tree, and where it stands.

    Parameters
    ----------
    function : function
        A plain Python function.
    what : str
        What it is for, for messages, such as ``activation``.
    """

    def __init__(self, function: types.FunctionType, what: str) -> None:
        self.function, self.what, self.name = function, what, function.__name__
        self.file, first = function.__code__.co_filename, function.__code__.co_firstlineno
        try:
            lines, first = inspect.getsourcelines(function)
        except (OSError, TypeError):
            self.line = first
            raise ConfigError(
                f"{self.place()}: its source cannot be read; a function that stands in a file or in a "
                "notebook's cell is required"
            ) from None
        self.line = max(first, 1)
        self.tree = self._found("".join(lines))

    def place(self, node: ast.AST | None = None) -> str:
        """Return function, file and line in words."""
        line = self.line if node is None else self.line + getattr(node, "lineno", 1) - 1
        return printable(f"{self.what} {self.name} ({self.file}, line {line})")

    def refuse(self, node: ast.AST | None, reason: str) -> NoReturn:
        """Raise the error that a piece of the function is not possible."""
        raise ConfigError(f"{self.place(node)}: {reason}")

    def _found(self, text: str) -> ast.FunctionDef | ast.Lambda:
        text = textwrap.dedent(text)
        for candidate in (text, f"({text.strip()})", text.strip().rstrip(",)")):
            try:
                tree = ast.parse(candidate)
                break
            except SyntaxError:
                continue
        else:
            self.refuse(None, "its source cannot be read by itself; write it as a function with def")
        kind = ast.Lambda if self.name == "<lambda>" else ast.FunctionDef
        code = self.function.__code__
        fitting = [
            node
            for node in ast.walk(tree)
            if isinstance(node, kind)
            and [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
            == list(code.co_varnames[: code.co_argcount])
            and (isinstance(node, ast.Lambda) or node.name == self.name)
        ]
        if len(fitting) != 1 and not (fitting and kind is ast.FunctionDef):
            self.refuse(None, "its source cannot be told from what stands beside it; write it with def")
        return fitting[0]


def plain_function(function: Any) -> types.FunctionType | None:
    """Return the plain Python function of a function or a Numba dispatcher; None of anything else."""
    plain = getattr(function, "py_func", function)
    return plain if isinstance(plain, types.FunctionType) else None
