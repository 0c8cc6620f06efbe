"""The tile of Arm's ``bfmmla``: the twin beside the manual's arithmetic, shapes, memory, accuracy and machine code."""

import re
import sys
from functools import cache, partial
from itertools import product

import numpy as np
import pytest
from numba import njit

from fgnumba.kernels.emit import vector
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.quad_tile import quad_code, quad_tile, tallest
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.compile import FASTMATH
from fgnumba.kernels.machine.subnormals import flushed
from tests import emulated_arm, guarded
from tests import tolerances_quads as tolerances
from tests.apart import python
from tests.quads import INFINITY, NAN, Operands, reference, split

TWIN = vector.TWINS["bfmmla-twin"]
MULTIPLYING = [name for name, precision in PRECISIONS.items() if precision.parts]
SHAPES = [(1, 1, 1), (2, 1, 32), (3, 2, 5), (4, 1, 16), (5, 1, 31), (6, 2, 12), (7, 1, 9), (8, 1, 32)]
SHAPES += [(9, 2, 23), (11, 1, 4), (13, 1, 2), (16, 2, 13), (17, 1, 27)]
"""Rows, panels, columns of a panel."""

SPECIAL = [0, 0x8000, 1, 0x8001, 0x007F, 0x0080, 0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7F81, 0x7FC0, 0xFFFF]
"""Zeros, subnormal numbers, the smallest and the largest normal number, infinities, NaN."""
STARTS = [0, 0x80000000, 1, 0x80000001, 0x00800001, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC12345]
"""The same of float32."""
EXPONENTS = {"usual": (0, 6), "spread": (0, 60), "tiny": (-64, 4), "huge": (62, 2), "special": (0, 6)}


def numbers(rng, kind, shape):
    """Return random bfloat16, whose exponents are near the middle of a kind, and further away at its edges."""
    middle, spread = EXPONENTS[kind]
    exponents = 127 + middle + rng.integers(-spread, spread + 1, shape)
    found = rng.integers(0, 1 << 16, shape) & 0x807F | exponents << 7
    if kind == "special":
        found = np.where(rng.random(shape) < 0.03, rng.choice(SPECIAL, shape), found)
    return found.astype(np.uint16)


def operands(name, rows, panels, K, kind="usual", segments=1, onto=False, seed=0, **more):
    rng = np.random.default_rng(seed)
    parts = PRECISIONS[name].parts
    a, w = numbers(rng, kind, (parts, rows, K)), numbers(rng, kind, (parts, K, panels * PANEL))
    start = None
    if onto:
        upper = numbers(rng, kind, (rows, panels * PANEL)).astype(np.uint32) << 16
        start = (upper | rng.integers(0, 1 << 16, upper.shape, dtype=np.uint32)).view(np.float32)
    return Operands(a, w, start, segments, **more)


@cache
def compiled(isa, rows, panels, width, terms):
    tile = quad_tile(isa, rows, panels, width, terms)

    @njit(fastmath=FASTMATH, error_model="numpy")
    def call(segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto):
        tile(segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto)

    return call


def run(name, given, width=PANEL, isa=TWIN):
    """Return the bits of a tile's result, of the columns that it computes, after a look at the others."""
    rows, panels = given.a.shape[1], given.w.shape[2] // PANEL
    arguments = given.arguments()
    before = given.out.copy()
    compiled(isa, rows, panels, width, PRECISIONS[name].terms)(*arguments)
    untouched = [n for n in range(panels * PANEL) if n % PANEL >= -(-width // 4) * 4]
    np.testing.assert_array_equal(
        given.out.view(np.uint32)[:, untouched], before.view(np.uint32)[:, untouched]
    )
    return given.out.view(np.uint32)[:, columns(panels, width)]


def columns(panels, width):
    return [n for n in range(panels * PANEL) if n % PANEL < width]


def expected(name, given, width=PANEL):
    rows, panels = given.a.shape[1], given.w.shape[2] // PANEL
    start = np.zeros((rows, panels * PANEL), np.float32) if given.start is None else given.start
    chosen = columns(panels, width)
    return reference(given.a, given.w[..., chosen], PRECISIONS[name].terms, start[:, chosen])


@pytest.mark.parametrize("onto", [False, True])
@pytest.mark.parametrize("kind", EXPONENTS)
@pytest.mark.parametrize("name", MULTIPLYING)
def test_the_twin_computes_what_the_manual_says(name, kind, onto):
    K = 4 if kind in ("huge", "special") else 24  # more would leave little that is finite
    given = operands(name, 8, 1, K, kind, onto=onto)
    found, wanted = run(name, given), expected(name, given)
    np.testing.assert_array_equal(found, wanted)
    sizes = wanted & 0x7FFFFFFF
    kinds = {"zero": sizes == 0, "infinite": sizes == INFINITY, "nan": wanted == NAN}
    shares = {kind: np.mean(each) for kind, each in kinds.items()}
    often = {"huge": "infinite"} if onto else {"tiny": "zero", "huge": "infinite"}
    if kind in often:
        assert 0 < shares[often[kind]] < 1, shares
    if kind in ("usual", "spread"):
        assert not any(shares.values()), shares


def test_every_pair_of_special_numbers_as_factors_and_as_terms():
    count = len(SPECIAL)
    a, w = np.zeros((1, count, 4), np.uint16), np.zeros((1, 4, PANEL), np.uint16)
    one = 0x3F80
    for first, second in ((SPECIAL, [one] * count), ([one] * count, SPECIAL)):
        for start in STARTS:
            # Their product alone, or one of each times 1, added to each other and to what was there.
            a[0, :, 0], w[0, 0, :count] = SPECIAL, first
            a[0, :, 1], w[0, 1, :count] = one, second
            sums = np.full((count, PANEL), start, np.uint32).view(np.float32)
            given = Operands(a, w, sums)
            np.testing.assert_array_equal(run("bf16", given, count), expected("bf16", given, count))


@pytest.mark.parametrize("name", MULTIPLYING)
def test_the_twin_computes_what_is_left_where_sums_cancel(name):
    given = operands(name, 8, 1, 48)
    given.a[..., 24:] = given.a[..., :24]
    given.w[:, 24:] = given.w[:, :24] ^ 0x8000
    found = run(name, given)
    np.testing.assert_array_equal(found, expected(name, given))
    half = run(name, Operands(given.a[..., :24], given.w[:, :24]))
    left, was = (np.median(np.abs(each.view(np.float32))) for each in (found, half))
    assert 0 < left < was / 1000
    # Products that are exact opposites in one quad leave +0, also of what was -0.
    given.w[...] = given.w[:, :1] ^ np.where(np.arange(48) % 2, 0x8000, 0)[None, :, None].astype(np.uint16)
    given.a[...] = given.a[..., :1]
    given.start = np.full((8, PANEL), -0.0, np.float32)
    np.testing.assert_array_equal(run(name, given), 0)


@pytest.mark.parametrize("kind", ["tiny", "special"])
def test_the_twin_does_not_depend_on_how_subnormal_numbers_are_treated(kind):
    given = operands("bf16x2", 5, 1, 24, kind, onto=True)
    plain = run("bf16x2", given).copy()
    with flushed():
        np.testing.assert_array_equal(run("bf16x2", given), plain)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", MULTIPLYING)
def test_every_shape_and_division_of_k(name, shape):
    rows, panels, width = shape
    for segments, quads, onto in ((1, 2, False), (2, 1, True), (3, 1, False)):
        given = operands(name, rows, panels, 4 * quads * segments, "spread", segments, onto, seed=segments)
        np.testing.assert_array_equal(run(name, given, width), expected(name, given, width))


@pytest.mark.parametrize("name", MULTIPLYING)
def test_bits_do_not_depend_on_the_tile_or_on_how_k_is_divided(name):
    rows, K = 17, 48
    whole = operands(name, rows, 2, K, onto=True)
    bits = run(name, whole).copy()
    for segments in (2, 3, 6):
        again = Operands(whole.a, whole.w, whole.start, segments)
        np.testing.assert_array_equal(run(name, again), bits)
    for first, end, panel, width in ((0, 1, 0, 7), (3, 8, 1, 32), (10, 13, 0, 18), (15, 17, 1, 1)):
        panels = slice(panel * PANEL, (panel + 1) * PANEL)
        part = Operands(whole.a[:, first:end], whole.w[..., panels], whole.start[first:end, panels])
        np.testing.assert_array_equal(
            run(name, part, width), bits[first:end, panel * PANEL : panel * PANEL + width]
        )
    for cut in (4, 20, 44):
        head = Operands(whole.a[..., :cut], whole.w[:, :cut], whole.start)
        run(name, head)
        tail = Operands(whole.a[..., cut:], whole.w[:, cut:], head.out.copy())
        np.testing.assert_array_equal(run(name, tail), bits)


def in_guarded_memory():
    """Compute tiles whose operands begin or end at inaccessible pages."""
    guard = guarded.Guard()
    for side, name, (rows, panels, width), segments in product(
        ("start", "end"), ("bf16", "bf16x3"), [(1, 1, 1), (3, 2, 30), (10, 1, 32)], (1, 3)
    ):
        guard.side = side
        given = operands(name, rows, panels, 12, segments=segments, allocate=guard.allocate)
        np.testing.assert_array_equal(run(name, given, width), expected(name, given, width))
        guard.check()
    print(guard.count)


@pytest.mark.skipif(sys.platform != "linux", reason="pages are made inaccessible by Linux's calls")
def test_nothing_is_read_or_written_outside_of_the_operands():
    done = python("-c", "from tests.kernels.test_quad_tile import in_guarded_memory as run; run()")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 2 * 2 * 3 * 2 * 4


@pytest.mark.parametrize("K", [4, 64, 1024])
@pytest.mark.parametrize("name", MULTIPLYING)
def test_accuracy(name, K):
    precision = PRECISIONS[name]
    rng = np.random.default_rng(K)
    a = rng.standard_normal((16, K)).astype(np.float32)
    w = rng.standard_normal((K, 2 * PANEL)).astype(np.float32)
    given = Operands(split(a, precision.parts), split(w, precision.parts))
    found = run(name, given).view(np.float32)
    exact, size = a.astype(np.float64) @ w, np.abs(a).astype(np.float64) @ np.abs(w)
    tolerances.quad_products(precision.parts, len(precision.terms)).check(found / size, exact / size, name)


LLVM = emulated_arm.machine()
with_arm = pytest.mark.skipif(LLVM is None, reason="this LLVM was built without a target for 64-bit Arm")


def inner_loops(rows, terms):
    """Return the instructions of each loop over K of a tile of one panel, as compiled for Arm."""
    parsed = emulated_arm.optimised(lambda b, given: quad_code(b, given, rows, 1, PANEL, terms, False), 11)
    lines = LLVM.emit_assembly(parsed).split("\n")
    labels = {line.split(":")[0]: at for at, line in enumerate(lines) if line.startswith(".LBB")}
    loops = []
    for end, line in enumerate(lines):
        jump = re.match(r"\s+b\.\w+\s+(\.LBB\w+)", line)
        if jump and labels[jump[1]] < end:
            body = lines[labels[jump[1]] + 1 : end]
            if not any(each.startswith(".LBB") for each in body):
                loops.append([each.split() for each in body if each.strip()])
    return loops


@with_arm
@pytest.mark.parametrize("name", MULTIPLYING)
def test_sums_stay_in_registers(name):
    terms = PRECISIONS[name].terms
    for rows in range(1, tallest(terms) + 1):
        loops = inner_loops(rows, terms)
        pairs = -(-rows // 2)
        instructions = [sum(line[0] == "bfmmla" for line in body) for body in loops]
        assert sum(instructions) == pairs * PANEL // 2 * len(terms)
        assert len(set(instructions)) == 1, instructions
        for body in loops:
            assert not [line for line in body if "sp" in " ".join(line)], (rows, body)
            assert not [line for line in body if line[0] == "mov" and line[1].startswith("v")], (rows, body)


@with_arm
@pytest.mark.skipif(emulated_arm.QEMU is None, reason="needs QEMU (qemu-aarch64)")
@pytest.mark.parametrize("kind", EXPONENTS)
@pytest.mark.parametrize("name", MULTIPLYING)
def test_the_instruction_computes_what_the_manual_says_in_an_emulation(name, kind, tmp_path):
    for (rows, panels, width), segments, onto in zip(
        SHAPES[-4:], (1, 2, 3, 1), (False, True, False, True), strict=True
    ):
        given = operands(name, rows, panels, 4 * segments, kind, segments, onto)
        arguments = list(given.arguments())
        data, places = b"", {}
        for array in (*given.kept, given.out):
            places[array.ctypes.data] = emulated_arm.DATA + 8 * len(arguments) + len(data)
            data += array.tobytes()
        for at in (1, 3, 6, 9):
            arguments[at] = places[arguments[at]]
        tile = partial(
            quad_code, rows=rows, panels=panels, width=width, terms=PRECISIONS[name].terms, twin=False
        )
        found = emulated_arm.run(tile, arguments, data, arguments[9], given.out.nbytes, tmp_path)
        bits = np.frombuffer(found, np.uint32).reshape(given.out.shape)[:, columns(panels, width)]
        np.testing.assert_array_equal(bits, expected(name, given, width))


@pytest.mark.skipif("bfmmla" not in vector.executable(), reason="this processor has no bfmmla")
@pytest.mark.parametrize("kind", EXPONENTS)
@pytest.mark.parametrize("name", MULTIPLYING)
def test_the_instruction_computes_the_same_bits_as_the_twin(name, kind):
    for rows, panels, width in SHAPES:
        given = operands(name, rows, panels, 24, kind, segments=2, onto=True)
        twin = run(name, given, width).copy()
        found = run(name, given, width, vector.INSTRUCTION_SETS["bfmmla"])
        np.testing.assert_array_equal(found, twin, err_msg=str((rows, panels, width)))
