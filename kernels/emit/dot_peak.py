"""The peak rate of the instructions that multiply bfloat16 and sum in float32, to compare products with.

    pairs    x86 vdpbf16ps    16 sums of 2 products, in a vector register
    quads    Arm bfmmla       4 sums of 4 products, in a vector register
    tiles    x86 tdpbf16ps    16 x 16 sums of 32 products, in a tile register

Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, TDPBF16PS and VDPBF16PS; Arm
Architecture Reference Manual, BFMMLA.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.bfmmla import bfmmla
from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.emit.vectors import BYTE, F32, I32, I64, Vectors, declared, index, never_unroll

TILE_ROWS, TILE_BYTES = 16, 64
"""Rows of a tile register, and bytes of a row."""

CHAINS = 4
"""Tiles of sums. Each waits for its previous product, and four of them keep the multiplier busy."""

_PER_LANE = {"pairs": 2, "quads": 4}


def dots_a_round(isa: InstructionSet) -> int:
    """Return the number of multiply-adds of one round of :func:`dot_peak`.

    Parameters
    ----------
    isa : InstructionSet
        A set that multiplies bfloat16.
    """
    if isa.dots == "tiles":
        return CHAINS * TILE_ROWS * (TILE_BYTES // 4) * (TILE_BYTES // 2)
    return isa.accumulators * isa.lanes * _PER_LANE[isa.dots]


@cache
def dot_peak(isa: InstructionSet) -> Callable[..., float]:
    """Return a Numba intrinsic ``(n) -> float32``: n rounds of independent dot products that touch no memory.

    A round is ``isa.accumulators`` instructions on vectors, or `CHAINS` on tiles. The time of many rounds gives the
    processor's peak rate.

    Parameters
    ----------
    isa : InstructionSet
        A set that multiplies bfloat16, and that the host can execute. The instructions of a twin are those of its set.
    """

    @intrinsic
    def peak(typingctx, rounds):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return rounds_of_dots(isa, builder, values[0])

        return types.float32(types.int64), codegen

    return peak


def rounds_of_dots(isa: InstructionSet, builder: Any, rounds: Any) -> Any:
    """Append the code of :func:`dot_peak` for `rounds`, an int64 value, and return its float32 result."""
    return _tiles(builder, rounds) if isa.dots == "tiles" else _vectors(isa, builder, rounds)


def _vectors(isa: InstructionSet, builder: Any, rounds: Any) -> Any:
    vectors = Vectors(builder, isa.lanes)
    # The factors depend on the argument. Otherwise the compiler would replace the loop by a constant.
    factor = Vectors(builder, isa.lanes, I32).splat(builder.trunc(rounds, I32))

    def dot(sums: Any) -> Any:
        if isa.dots == "quads":
            return bfmmla(builder, sums, factor, factor)
        return vectors.dot_pairs(factor, factor, sums)

    before, loop, done = (
        builder.block,
        builder.append_basic_block("round"),
        builder.append_basic_block("done"),
    )
    builder.branch(loop)
    builder.position_at_end(loop)
    i = builder.phi(I64)
    i.add_incoming(index(0), before)
    sums = [builder.phi(vectors.type) for _ in range(isa.accumulators)]
    for n, phi in enumerate(sums):
        phi.add_incoming(ir.Constant(vectors.type, [float(n)] * isa.lanes), before)
    totals = [dot(phi) for phi in sums]
    i_next = builder.add(i, index(1))
    i.add_incoming(i_next, loop)
    for phi, value in zip(sums, totals, strict=True):
        phi.add_incoming(value, loop)
    again = builder.cbranch(builder.icmp_signed("<", i_next, rounds), loop, done)
    never_unroll(builder.module, again)
    builder.position_at_end(done)
    total = totals[0]
    for value in totals[1:]:
        total = builder.fadd(total, value)
    return builder.extract_element(total, ir.Constant(I32, 0))


def _tiles(builder: Any, rounds: Any) -> Any:
    """Multiply two pairs of tiles of zeros, in all four ways, and sum onto four tiles.

    LLVM keeps instructions on tiles of fixed numbers, whatever becomes of their results.
    """
    nothing, pointer = ir.VoidType(), BYTE.as_pointer()
    left, right = [CHAINS, CHAINS + 1], [CHAINS + 2, CHAINS + 3]

    def call(name: str, *numbers: int) -> None:
        function = declared(builder, f"llvm.x86.{name}", nothing, [BYTE] * len(numbers))
        builder.call(function, [ir.Constant(BYTE, number) for number in numbers])

    builder.call(declared(builder, "llvm.x86.ldtilecfg", nothing, [pointer]), [_configuration(builder)])
    for number in range(CHAINS + 4):
        call("tilezero", number)
    before, loop, done = (
        builder.block,
        builder.append_basic_block("round"),
        builder.append_basic_block("done"),
    )
    builder.branch(loop)
    builder.position_at_end(loop)
    i = builder.phi(I64)
    i.add_incoming(index(0), before)
    for number, (a, b) in enumerate((a, b) for a in left for b in right):
        call("tdpbf16ps", number, a, b)
    i_next = builder.add(i, index(1))
    i.add_incoming(i_next, loop)
    again = builder.cbranch(builder.icmp_signed("<", i_next, rounds), loop, done)
    never_unroll(builder.module, again)
    builder.position_at_end(done)
    call("tilerelease")
    return ir.Constant(F32, 0.0)


def _configuration(builder: Any) -> Any:
    """Return the address of 64 bytes that make all eight tiles as large as they can be."""
    words = [1, *[0] * 15]
    columns, rows = [TILE_BYTES, 0] * 8, [TILE_ROWS] * 8
    content = bytearray([*words, *columns, *[0] * 16, *rows, *[0] * 8])
    kind = ir.ArrayType(BYTE, len(content))
    place = builder.alloca(kind)
    place.align = 64
    builder.store(ir.Constant(kind, content), place)
    return builder.bitcast(place, BYTE.as_pointer())
