"""Tiles of bfloat16: the bits that the instructions are documented to give, and the accuracy of each precision."""

import ctypes

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from fgnumba.kernels.emit import vector
from fgnumba.kernels.emit.matrix_tile import TALLEST, tile_code
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.emit.vectors import F32, I32, I64, Vectors
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.subnormals import flushed
from fgnumba.kernels.shared.product import dot_tiles
from tests import tolerances_precision

HARDWARE = [name for name in vector.executable() if vector.INSTRUCTION_SETS[name].dots]
TWINS = list(vector.TWINS)
REDUCED = [name for name, precision in PRECISIONS.items() if precision.parts]
SHAPES = [(1, 1, 1), (2, 33, 2), (5, 257, 4), (13, 300, 1)]


def isa_of(name):
    return vector.TWINS.get(name) or vector.INSTRUCTION_SETS[name]


def function(address, arguments):
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)(address)


def split(isa, precision, x):
    """Return the parts of rows, (parts, rows, padded K) uint16."""
    rows, inputs = x.shape
    width = dot_tiles.padded(isa, inputs)
    out = aligned((PRECISIONS[precision].parts, rows, width), np.uint16)
    out[...] = 0x7FFF
    run = function(dot_tiles.split_kernel(isa, precision), 7)
    run(rows, inputs, x.ctypes.data, inputs, out.ctypes.data, width // 2, rows * width // 2)
    return out


def pack(isa, precision, w):
    """Return the parts of panels, (parts, panels, padded K * PANEL) uint16."""
    panels, inputs, _ = w.shape
    size = dot_tiles.padded(isa, inputs) * PANEL
    out = aligned((PRECISIONS[precision].parts, panels, size), np.uint16)
    out[...] = 0x7FFF
    run = function(dot_tiles.pack_kernel(isa, precision), 4)
    for panel in range(panels):
        run(inputs, w[panel].ctypes.data, out[0, panel].ctypes.data, panels * size // 2)
    return out


def multiply(isa, precision, x, w, onto=None, cuts=()):
    """Return x w for w in panels, (rows, panels * PANEL), computed by one tile, K cut into pieces at `cuts`."""
    rows, panels = len(x), len(w)
    a, b = split(isa, precision, x), pack(isa, precision, w)
    words = a.shape[2] // 2
    out = aligned((rows, panels * PANEL))
    out[...] = np.nan if onto is None else onto
    run = function(int(dot_tiles.dot_table(isa, [rows], panels, precision)[rows, 1]), 11)
    offsets = np.zeros(1, np.int64)
    ends = [*(cut // 2 for cut in cuts), words]
    with flushed():
        for first, last in zip([0, *ends[:-1]], ends, strict=True):
            run(
                *(1, offsets.ctypes.data, last - first),
                *(a.ctypes.data + 4 * first, rows * words, words),
                *(b.ctypes.data + 4 * first * PANEL, panels * words * PANEL, words * PANEL),
                *(out.ctypes.data, onto is not None or first > 0),
            )
    return out


def number(bits):
    """Return bfloat16 as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def coarse(rng, shape):
    """Return random bfloat16 between 1/8 and 8, whose products' sums are exact in float64."""
    values = (rng.choice([-1, 1], shape) * 2.0 ** rng.uniform(-3, 3, shape)).astype(np.float32)
    return (values.view(np.uint32) & 0xFFFF0000).view(np.float32)


def pairs_reference(x, w, onto):
    """Return what ``vdpbf16ps`` gives: of each pair, the second product first; every sum is rounded once."""
    out = onto.copy()
    for k in range(0, x.shape[1], 2):
        for at in (k + 1, k):
            product = x[:, at, None].astype(np.float64) * w[at]
            out = (product + out).astype(np.float32)
    return out


def tiles_reference(x, w, onto):
    """Return what ``tdpbf16ps`` gives: first and second products of 16 pairs apart, from zero, then their sum."""
    out = onto.copy()
    for step in range(0, x.shape[1], 32):
        sums = [np.zeros_like(out), np.zeros_like(out)]
        for k in range(step, step + 32):
            product = x[:, k, None].astype(np.float64) * w[k]
            sums[k % 2] = (product + sums[k % 2]).astype(np.float32)
        out = out + (sums[0] + sums[1])
    return out


@pytest.mark.parametrize(("name", "reference"), [("avx512bf16", pairs_reference), ("amx", tiles_reference)])
def test_the_bits_are_those_that_the_instructions_are_documented_to_give(name, reference):
    for rows, seed in ((1, 0), (4, 1), (13, 2)):
        rng = np.random.default_rng(seed)
        x, w = coarse(rng, (rows, 96)), coarse(rng, (1, 96, PANEL))
        onto = coarse(rng, (rows, PANEL))
        expected = reference(x, w[0], onto)
        for each in [f"{name}-twin", *[name] * (name in HARDWARE)]:
            np.testing.assert_array_equal(multiply(isa_of(each), "bf16", x, w, onto), expected, err_msg=each)


def wide(rng, shape):
    """Return random float32 of all sizes, subnormal and infinite ones and NaN among them."""
    values = (rng.standard_normal(shape) * 10.0 ** rng.uniform(-42, 38, shape)).astype(np.float64)
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    values.flat[:: values.size // 3 + 1] = rng.choice(np.array([np.inf, -np.inf, np.nan], np.float32))
    return values


@pytest.mark.skipif(not HARDWARE, reason="the processor does not multiply bfloat16")
@pytest.mark.parametrize("precision", REDUCED)
def test_a_twin_computes_the_bits_of_its_set(precision):
    rng = np.random.default_rng(3)
    for name in HARDWARE:
        for rows, inputs, panels in SHAPES:
            for draw in (wide, lambda rng, shape: rng.standard_normal(shape).astype(np.float32)):
                x, w = draw(rng, (rows, inputs)), draw(rng, (panels, inputs, PANEL))
                with np.errstate(invalid="ignore"):
                    one = multiply(isa_of(name), precision, x, w)
                    other = multiply(isa_of(f"{name}-twin"), precision, x, w)
                nan = np.isnan(one)
                np.testing.assert_array_equal(nan, np.isnan(other))
                np.testing.assert_array_equal(one[~nan].view(np.uint32), other[~nan].view(np.uint32))


@pytest.mark.parametrize("name", TWINS + HARDWARE)
def test_three_parts_hold_every_factor_but_the_smallest_and_the_largest(name):
    isa, rng = isa_of(name), np.random.default_rng(5)
    significands = rng.uniform(1, 2, (4, 1)).astype(np.float32)
    one = np.ones((1, 1, PANEL), np.float32)
    for exponent in (-102, -60, 0, 126):
        x = significands * np.float32(2.0**exponent)
        np.testing.assert_array_equal(multiply(isa, "bf16x3", x, one), np.tile(x, PANEL))
    # A part that would be subnormal is lost.
    for exponent in (-125, -117, -109, -104):
        x = significands * np.float32(2.0**exponent)
        lost = np.abs(multiply(isa, "bf16x3", x, one).astype(float) - x)
        assert lost.max() < 2.0**-126
    # Parts that an infinite factor does not have are zero, and infinity times zero is NaN.
    for large in (np.inf, 3.4e38):
        found = {each: multiply(isa, each, np.array([[large]], np.float32), one) for each in REDUCED}
        assert np.isnan(found["bf16x3"]).all()
        assert np.isnan(found["bf16x2"]).all()
        np.testing.assert_array_equal(found["bf16"], np.full((1, PANEL), np.inf))


@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize("name", TWINS + HARDWARE)
def test_products_are_as_exact_as_their_precision(name, precision):
    rng, tallest = np.random.default_rng(4), dot_tiles.tallest(isa_of(name))
    for rows, inputs, panels in SHAPES:
        rows = min(rows, tallest)
        x = rng.standard_normal((rows, inputs)).astype(np.float32)
        w = rng.standard_normal((panels, inputs, PANEL)).astype(np.float32)
        expected = np.einsum("mk,pkn->mpn", x.astype(float), w.astype(float)).reshape(rows, -1)
        magnitude = np.einsum("mk,pkn->mpn", abs(x), abs(w)).max()
        found = multiply(isa_of(name), precision, x, w)
        tolerances_precision.product_within(precision, inputs, magnitude).check(found, expected)


@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize("name", TWINS + HARDWARE)
def test_sums_depend_neither_on_the_tile_nor_on_where_k_is_cut(name, precision):
    rng, isa = np.random.default_rng(5), isa_of(name)
    tallest = dot_tiles.tallest(isa)
    x = rng.standard_normal((tallest, 160)).astype(np.float32)
    w = rng.standard_normal((1, 160, PANEL)).astype(np.float32)
    whole = multiply(isa, precision, x, w)
    for rows in {1, 2, tallest // 2, tallest - 1}:
        np.testing.assert_array_equal(multiply(isa, precision, x[:rows], w), whole[:rows])
    for cuts in ((32,), (64, 96), (128,)):
        np.testing.assert_array_equal(multiply(isa, precision, x[:3], w, cuts=cuts), whole[:3])


@pytest.mark.parametrize("name", TWINS + HARDWARE)
def test_parts_of_a_number_are_each_the_nearest(name):
    isa = isa_of(name)
    rng = np.random.default_rng(6)
    x = (rng.standard_normal((3, 67)) * 10.0 ** rng.uniform(-20, 20, (3, 67))).astype(np.float32)
    for precision in REDUCED:
        parts = split(isa, precision, x)
        rest = x.copy()
        for k, part in enumerate(parts[:, :, :67]):
            words = rest.view(np.uint32)
            # Ties go to the even number in the last part, and away from zero in others.
            half = 0x7FFF + (words >> 16 & 1) if k + 1 == len(parts) else 0x8000
            np.testing.assert_array_equal(part, ((words + half) >> 16).astype(np.uint16))
            rest = rest - number(part)
        assert rest.any() == (precision != "bf16x3")
        assert not parts[:, :, 67:].any()


@pytest.mark.parametrize("name", TWINS + HARDWARE)
def test_no_number_that_is_not_finite_gets_lost(name):
    words = np.array([[0x7F800000, 0xFF800000, 0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001]], np.uint32)
    x = words.view(np.float32)
    for precision in REDUCED:
        parts = number(split(isa_of(name), precision, x)[:, 0, :6])
        with np.errstate(invalid="ignore"):
            assert not np.isfinite(parts.sum(axis=0)).any()
    np.testing.assert_array_equal(parts[0, :2], x[0, :2])
    with np.errstate(over="ignore", invalid="ignore"):
        largest = number(split(isa_of(name), "bf16", np.array([[3.4e38, 1.0]], np.float32))[0, 0, :2])
    np.testing.assert_array_equal(largest, [np.inf, 1.0])


@pytest.mark.parametrize("name", TWINS + HARDWARE)
def test_packed_rows_of_a_column_are_neighbours(name):
    isa = isa_of(name)
    together = dot_tiles.TOGETHER[isa.dots]
    for inputs in (1, 2, 3, 5, 33):
        w = np.arange(inputs * PANEL, dtype=np.float32).reshape(1, inputs, PANEL) % 251
        packed = number(pack(isa, "bf16", w)[0, 0]).reshape(-1, PANEL, together)
        rows = packed.transpose(0, 2, 1).reshape(-1, PANEL)
        np.testing.assert_array_equal(rows[:inputs], w[0])
        assert not rows[inputs:].any()


def machine_code(processor, write, arguments):
    """Return the assembly of a function of int64 `arguments`, whose body `write` appends, for an x86 processor."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module()
    module.triple = "x86_64-unknown-linux-gnu"
    body = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * arguments), "tile")
    builder = ir.IRBuilder(body.append_basic_block())
    write(builder, list(body.args))
    builder.ret_void()
    try:
        target = llvm.Target.from_triple(module.triple)
    except RuntimeError:
        pytest.skip("this build of LLVM does not write code for x86")
    machine = target.create_target_machine(cpu=processor, opt=2)
    return machine.emit_assembly(llvm.parse_assembly(str(module)))


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("rows", [1, 16, 17, TALLEST])
def test_a_tile_is_the_instructions_of_amx(rows, grouped):
    terms = PRECISIONS["bf16x3"].terms

    def write(builder, args):
        args[1] = builder.inttoptr(args[1], I64.as_pointer())
        tile_code(builder, args, rows, terms, grouped)

    text = machine_code("sapphirerapids", write, 11)
    tiles = 2 * -(-rows // 16)
    assert text.count("tdpbf16ps") == tiles * len(terms)
    # Rows in groups are multiplied by tiles that were configured before.
    assert text.count("ldtilecfg") == text.count("tilerelease") == (not grouped)
    assert text.count("tilestored") == text.count("tilezero") == tiles
    # The sums that are gone on with; for each term of another part than before, the rows of x, and the panel.
    assert text.count("tileloadd") == tiles + 4 * (tiles // 2) + 3 * 2


def test_pairs_are_multiplied_by_one_instruction():
    def write(builder, args):
        vectors = Vectors(builder, 16)
        out = builder.inttoptr(args[0], F32.as_pointer())
        a = vectors.splat(builder.load(builder.inttoptr(args[1], F32.as_pointer())))
        b = vectors.load(builder.inttoptr(args[2], F32.as_pointer()), ir.Constant(I32, 0))
        zero = ir.Constant(I32, 0)
        vectors.store(vectors.dot_pairs(a, b, vectors.load(out, zero)), out, zero)

    text = machine_code("znver4", write, 3)
    assert text.count("vdpbf16ps") == 1
    assert "vfmadd" not in text
