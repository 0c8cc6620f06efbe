"""A Sphinx extension: docstrings are read as the plain text that they are.

In a docstring an indented paragraph outside of a numpydoc section is a formula or a program, and ``|x|`` and
``(B, *input_shape)`` are mathematics. reStructuredText would fill the paragraph, and take the characters for markup.
"""

import re
from typing import Any

from sphinx.application import Sphinx

_CODE = re.compile(r"(``.+?``|:\w+:`.+?`)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the change of docstrings, ahead of numpydoc's."""
    app.connect("autodoc-process-docstring", _as_text, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _as_text(app: Sphinx, kind: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Make formulas literal blocks, and escape what only looks like markup."""
    text: list[str] = []
    in_section = in_block = False
    for number, line in enumerate(lines):
        indented = line.startswith("    ")
        if number + 1 < len(lines) and line and set(lines[number + 1]) == {"-"}:
            in_section = True
        if in_block and line and not indented:
            in_block = False
        if not in_section and not in_block and indented and (not text or not text[-1]):
            in_block = True
            if not any(previous.endswith("::") for previous in text[-2:]):
                text += ["::", ""]
        text.append(line if in_block else _escaped(line))
    lines[:] = text


def _escaped(line: str) -> str:
    """Escape stars before a name and vertical bars, outside of code."""
    parts = _CODE.split(line)
    parts[::2] = [re.sub(r"(\|)|(?<![*\w])(\*)(?=\w+[ ,.;)])", r"\\\g<0>", part) for part in parts[::2]]
    return "".join(parts)
