"""A tangent is read from disk only where it would be compiled to the same code."""

import os
import subprocess
import sys

import pytest

CALLEE = """
import sys
from numba import njit
import fgnumba as fg

factor = 1.0

@njit
def inner(x):
    return factor * x * x

@njit
def outer(x):
    return inner(x) + x

if sys.argv[1] == "changes":
    fg.jvp(inner, (3.0,), (1.0,))
factor = 2.0
print(fg.jvp(outer, (3.0,), (1.0,)))
"""

FIELDS = """
import sys
from collections import namedtuple
import fgnumba as fg

Point = namedtuple("Point", sys.argv[1])

def function(p):
    return 2.0 * p.a * p.a + 3.0 * p.b

print(fg.jvp(function, (Point(a=3.0, b=5.0),), (Point(a=1.0, b=0.0),)))
"""


@pytest.mark.parametrize(
    ("program", "first", "second", "right"),
    [(CALLEE, "changes", "begins so", "(21.0, 13.0)"), (FIELDS, "a b", "b a", "(33.0, 12.0)")],
    ids=["a callee compiled before its global changed", "a named tuple with its fields in another order"],
)
def test_another_process_reads_no_code_of_other_values(tmp_path, program, first, second, right):
    file = tmp_path / "program.py"
    file.write_text(program)
    environment = {**os.environ, "FGNUMBA_CACHE_DIR": str(tmp_path / "cache")}
    found = [
        subprocess.run(
            [sys.executable, str(file), argument], env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()
        for argument in (first, second)
    ]
    assert found[1] == right
