"""Numba's bounds checks: if they are asked for, they are active in every kernel and never find anything."""

import sys
from pathlib import Path

import pytest

from tests.apart import python

# An index past an array that lies in a larger one: nothing else would notice.
WRONG = """
import numpy as np
from numba import carray
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.memory import address, aligned
from fgnumba.kernels.machine.program import Operation, Program

ARGUMENTS = record("values")


def wrong(arguments, part, parts):
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    values = carray(pointer(a.values, np.float32), 3)
    values[part + 2] = np.float32(1)


values = aligned((8,))
fields = {"values": address(values)}
program = Program([Operation("wrong", kernel("wrong", wrong, 3), filled(ARGUMENTS, fields), parts=2)])
program.run()
print(values)
"""

CASES = ("dense 5 x 1-65-1", "local-feedback, dense")


def run(checked, *arguments, **more):
    checks = {"NUMBA_BOUNDSCHECK": "1"} if checked else {}
    return python(*arguments, without=["NUMBA_BOUNDSCHECK"], **checks, **more)


def test_an_index_out_of_bounds_is_reported_also_where_unchecked_code_is_cached(tmp_path):
    script, folder = tmp_path / "wrong.py", str(tmp_path / "cache")
    script.write_text(WRONG, encoding="utf-8")
    unchecked = run(False, script, FGNUMBA_CACHE_DIR=folder)
    assert (unchecked.stderr, unchecked.stdout) == ("", "[0. 0. 1. 1. 0. 0. 0. 0.]\n")
    kernels = len(list(Path(folder).iterdir()))
    checked = run(True, script, FGNUMBA_CACHE_DIR=folder)
    assert "IndexError: index is out of bounds" in checked.stderr
    assert checked.stdout == "[0. 0. 1. 0. 0. 0. 0. 0.]\n"
    assert len(list(Path(folder).iterdir())) == 2 * kernels


def check(*names):
    done = run(True, "-m", "tests.guarded", *names)
    assert done.returncode == 0, f"{(done.stdout.splitlines() or [''])[-1]}\n{done.stderr}"


@pytest.mark.skipif(sys.platform != "linux", reason="pages are made inaccessible by Linux's calls")
def test_no_index_is_out_of_bounds():
    check(*CASES)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pages are made inaccessible by Linux's calls")
def test_no_index_is_out_of_bounds_at_any_ragged_shape():
    check()
