"""The log of a sequence's rules, each written to disk before it runs, so that a crash leaves the sequence."""

import re
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

BEGIN_LINE = "sequence"
DIFFER = " differ: "


class Log:
    """Lines ``rule(arguments)``; every sequence begins with a line of its own.

    Parameters
    ----------
    path : None: nothing is written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = None if path is None else path.open("w", encoding="utf-8")
        self.sequence: list[str] = []

    def begin(self) -> None:
        """Begin a sequence."""
        self.sequence = []
        self._write(BEGIN_LINE)

    def add(self, rule: str, arguments: dict[str, Any]) -> None:
        """Note a rule that is about to be taken."""
        line = f"{rule}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"
        self.sequence.append(line)
        self._write(line)

    def _write(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()


def last_sequence(path: Path) -> list[str]:
    """Return the lines of the last sequence of a log."""
    lines = path.read_text(encoding="utf-8").splitlines()
    start = max((i for i, line in enumerate(lines) if line == BEGIN_LINE), default=-1)
    return lines[start + 1 :]


def counted(path: Path) -> tuple[int, Counter[str]]:
    """Return how many sequences a log has, and how many times each rule was taken."""
    names = Counter(line.split("(")[0] for line in path.read_text(encoding="utf-8").splitlines())
    return names.pop(BEGIN_LINE, 0), names


def _cause(error: BaseException) -> str:
    """Return the first line of what an error says, without the numbers that differ."""
    return str(error).split("\n")[0].split(DIFFER)[0]


def signature(rule: str, error: BaseException) -> str:
    """Return what tells failures apart: the rule, the error without its numbers, where the package raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/tests/" not in frame.filename]
    inner = ours[-1] if ours else frames[-1]
    text = re.sub(r"0x[0-9a-f]+|[-+]?\d[\d.e+-]*|'[^']*'|b\"[^\"]*\"", "#", _cause(error))
    return f"{rule}: {type(error).__name__}: {text[:160]} ({Path(inner.filename).name} {inner.name})"
