"""A Sphinx extension: docstrings are read as the plain text that they are.

An indented paragraph outside of numpydoc's sections is a formula or a program, and ``|x|`` and ``(B, *input_shape)``
are mathematics: reStructuredText would fill the paragraph, and take the characters for markup. A paragraph behind the
entries of a section (a cost, a source) is a note: numpydoc would take it for one more entry.
"""

import re
from typing import Any

from sphinx.application import Sphinx

LISTS = ("Parameters", "Attributes", "Raises")
_CODE = re.compile(r"(``.+?``|:\w+:`.+?`)")
_ENTRY = re.compile(r"[\w*, .]+ : |[A-Z]\w*Error(, [A-Z]\w*Error)*$")

Section = tuple[str, list[str]]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the change of docstrings, ahead of numpydoc's."""
    app.connect("autodoc-process-docstring", _as_text, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _as_text(app: Sphinx, kind: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Escape what only looks like markup, and give formulas and notes their places."""
    (_, opening), *sections = _sections(lines)
    notes: list[str] = []
    kept: list[Section] = []
    for title, text in sections:
        start = _end_of_entries(text) if title in LISTS else len(text)
        kept.append((title, text[:start]))
        notes += text[start:]
    if notes:
        rest = [text for title, text in kept if title == "Notes"]
        kept = [section for section in kept if section[0] != "Notes"]
        kept.append(("Notes", [line for text in rest for line in text] + notes))
    lines[:] = _with_blocks(opening)
    for title, text in kept:
        found = _with_blocks(text) if title == "Notes" else [_escaped(line) for line in text]
        lines += ["", title, "-" * len(title), *found]


def _sections(lines: list[str]) -> list[Section]:
    """Return the parts of a docstring; the first one has no title."""
    parts: list[Section] = [("", [])]
    for number, line in enumerate(lines):
        if line and number + 1 < len(lines) and re.fullmatch("-{3,}", lines[number + 1]):
            parts.append((line, []))
        elif not (parts[-1][0] and not parts[-1][1] and re.fullmatch("-{3,}", line)):
            parts[-1][1].append(line)
    return parts


def _end_of_entries(lines: list[str]) -> int:
    """Return where in a section a paragraph begins that is no entry."""
    for number, line in enumerate(lines[1:], 1):
        described = number + 1 < len(lines) and lines[number + 1].startswith(" ")
        if line and not lines[number - 1] and line[0] != " " and not described and not _ENTRY.match(line):
            return number
    return len(lines)


def _with_blocks(lines: list[str]) -> list[str]:
    """Return text whose indented paragraphs are literal blocks."""
    text: list[str] = []
    in_block = False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not in_block and (not text or not text[-1]):
            in_block = True
            if not any(previous.endswith("::") for previous in text[-2:]):
                text += ["::", ""]
        elif line and not indented:
            in_block = False
        text.append(line if in_block else _escaped(line))
    return text


def _escaped(line: str) -> str:
    """Escape stars before a name and vertical bars, outside of code."""
    parts = _CODE.split(line)
    parts[::2] = [re.sub(r"(\|)|(?<![*\w])(\*)(?=\w+[ ,.;)])", r"\\\g<0>", part) for part in parts[::2]]
    return "".join(parts)
