"""Derivatives of random programs: 60 in every run of the tests, 2,000 in that of the slow ones."""

import pytest

from tests.apart import python
from tests.functions.differential import failure

FEW, MANY, TOGETHER = 60, 2000, 50


@pytest.mark.parametrize("number", range(FEW))
def test_derivatives_of_a_program(number, tmp_path):
    wrong = failure(number, tmp_path, short=True)
    if wrong:
        pytest.fail(wrong, pytrace=False)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, MANY, TOGETHER))
def test_derivatives_of_many_programs(first):
    # A process for each part: what Numba has compiled stays in memory.
    last = min(first + TOGETHER, MANY)
    done = python("-m", "tests.functions.differential", str(first), str(last))
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
