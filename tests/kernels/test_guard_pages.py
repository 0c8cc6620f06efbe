"""No kernel reads or writes outside of its arrays, which lie between inaccessible pages, at ragged shapes."""

import signal
import sys

import pytest

from fgnumba.kernels import OPERATIONS
from fgnumba.kernels.devices import precision
from fgnumba.kernels.emit import vector
from tests.apart import python

WIDTHS = vector.executable()

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="pages are made inaccessible by Linux's calls"
)

FAULT = """
import faulthandler
import numpy as np
from numba import carray
from tests import guarded

faulthandler.enable()
guard = guarded.Guard()
guarded.install(guard)
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.memory import address, aligned
from fgnumba.kernels.machine.program import Operation, Program

ARGUMENTS = record("values", "at", "write")


def touch(arguments, part, parts):
    a = carray(pointer(arguments, ARGUMENTS), 1)[0]
    values = carray(pointer(a.values + 4 * a.at, np.float32), 2)
    if a.write:
        values[0] = np.float32(1)
    else:
        values[1] = values[0]


guard.side, at, write = {side!r}, {at}, {write}
values = aligned((5,))
fields = {{"values": address(values), "at": at, "write": write}}
Program([Operation("touch", kernel("touch", touch, 3), filled(ARGUMENTS, fields), keeps=(values,))]).run()
guard.check()
assert np.isfinite(values).all(), "read"
"""


SHORT = """
from tests import guarded

cut = guarded.cut_small_pieces


def cut_without_slack():
    from fgnumba.model import plan
    cut()
    # Rounded up to cache lines, a buffer may happen to be long enough.
    plan.SLACK, plan.CACHE_LINE = 0, 4


guarded.cut_small_pieces = cut_without_slack
guarded.main(["images, depthwise of the input"])
"""


def run(*arguments, width=WIDTHS[0], products="float32"):
    return python(*arguments, **{vector.OVERRIDE: width, precision.OVERRIDE: products})


def check(names=(), width=WIDTHS[0], products="float32"):
    done = run("-m", "tests.guarded", *names, width=width, products=products)
    begun = done.stdout.splitlines() or [""]
    assert done.returncode == 0, f"{width}: {begun[-1]}: exit status {done.returncode}\n{done.stderr}"
    return begun


def case_names(width):
    script = "from tests.guarded_cases import CASES; print(*CASES, sep='\\n')"
    return run("-c", script, width=width).stdout.splitlines()


def test_every_operation_on_the_widest_instructions():
    *_, bound, count = check()
    assert set(bound.split()[1:]) == set(OPERATIONS)
    assert int(count.split()[-1]) > 10_000


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_some_cases_on_narrower_instructions(width):
    names = case_names(width)
    assert len(names) > 100
    check(names[WIDTHS.index(width) :: 8], width)


@pytest.mark.parametrize(
    ("number", "width", "products"),
    [
        (0, "avx512bf16-twin", "bf16"),
        (1, "amx-twin", "bf16x2"),
        (2, "bfmmla-twin", "bf16"),
        *((3 + n, name, "bf16x3") for n, name in enumerate(WIDTHS) if vector.INSTRUCTION_SETS[name].dots),
    ],
)
def test_some_cases_in_bfloat16(number, width, products):
    check(case_names(width)[number::24], width, products)


@pytest.mark.slow
@pytest.mark.parametrize("products", ["bf16", "bf16x3"])
@pytest.mark.parametrize("width", [*vector.TWINS, *WIDTHS])
def test_every_operation_in_bfloat16(width, products):
    if not vector.instruction_set(width).dots:
        pytest.skip("this set does not multiply bfloat16")
    check(width=width, products=products)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS[1:])
def test_every_operation_on_narrower_instructions(width):
    check(width=width)


@pytest.mark.parametrize(
    ("side", "at", "write", "status", "message"),
    [
        ("end", 5, False, -signal.SIGSEGV, "Segmentation fault"),
        ("end", 5, True, -signal.SIGSEGV, "Segmentation fault"),
        ("start", -1, False, -signal.SIGSEGV, "Segmentation fault"),
        ("start", -1, True, -signal.SIGSEGV, "Segmentation fault"),
        ("start", 5, True, 1, "GuardError: byte 20 of a buffer of 20 bytes was written"),
        ("end", -1, True, 1, "GuardError: byte -4 of a buffer of 20 bytes was written"),
        ("end", -1, False, 1, "AssertionError: read"),
    ],
)
def test_a_kernel_that_leaves_its_array_is_caught(side, at, write, status, message, tmp_path):
    script = tmp_path / "fault.py"
    script.write_text(FAULT.format(side=side, at=at, write=int(write)), encoding="utf-8")
    done = run(script)
    assert (done.returncode, message in done.stderr) == (status, True), done.stderr


def test_a_buffer_that_is_too_short_for_a_tile_of_channels_is_caught():
    done = run("-c", SHORT)
    assert done.returncode == -signal.SIGSEGV, done.stderr
    assert done.stdout.splitlines() == ["images, depthwise of the input, end"]
