"""Splits float32 into bfloat16, in the order in which the tiles of products read them.

A number is divided into parts, x = x₀ + x₁ + ..., each the bfloat16 nearest to what the ones before it leave, see
:mod:`fgnumba.kernels.emit.precision`. Where the first part is infinite or NaN, the others are zero. Processors with
AVX512-BF16 have an instruction for it, and others compute the same, except that a subnormal number is zero in one and
itself in the other: products count both as zero.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.emit.vectors import BFLOAT, F32, I32, Vectors, index, loop

_INFINITY = 0x7F800000


class _Splitter:
    """Splits vectors of `lanes` float32, by the processor's own instruction if `converts`."""

    def __init__(self, builder: Any, lanes: int, converts: bool) -> None:
        self.builder, self.vectors, self.converts = builder, Vectors(builder, lanes), converts
        self.words = ir.VectorType(I32, lanes)

    def word(self, value: int) -> Any:
        return ir.Constant(self.words, [value] * self.vectors.lanes)

    def parts(self, x: Any, count: int) -> Iterator[Any]:
        """Yield the parts as words, whose upper half is the bfloat16, and whose lower half is zero."""
        b, word = self.builder, self.word
        for part in range(count):
            upper = self._converted(x) if self.converts else self._rounded(x)
            yield upper
            if part + 1 < count:
                rest = b.fsub(x, b.bitcast(upper, self.vectors.type))
                finite = b.icmp_unsigned("<", b.and_(upper, word(_INFINITY)), word(_INFINITY))
                x = b.select(finite, rest, self.vectors.zero)

    def _converted(self, x: Any) -> Any:
        b = self.builder
        halves = b.fptrunc(x, ir.VectorType(BFLOAT, self.vectors.lanes))
        bits = b.bitcast(halves, ir.VectorType(ir.IntType(16), self.vectors.lanes))
        return b.shl(b.zext(bits, self.words), self.word(16))

    def _rounded(self, x: Any) -> Any:
        b, word = self.builder, self.word
        bits = b.bitcast(x, self.words)
        odd = b.and_(b.lshr(bits, word(16)), word(1))
        rounded = b.add(b.add(bits, word(0x7FFF)), odd)
        nan = b.icmp_unsigned(">", b.and_(bits, word(0x7FFFFFFF)), word(_INFINITY))
        return b.and_(b.select(nan, b.or_(bits, word(0x400000)), rounded), word(0xFFFF0000))

    def load(self, base: Any, offset: Any) -> Any:
        return self.vectors.load(base, offset)


def _floats(builder: Any, at: Any) -> Any:
    return builder.inttoptr(at, F32.as_pointer())


def _store(builder: Any, value: Any, at: Any) -> None:
    """Store a vector of integers at an int64 address."""
    builder.store(value, builder.inttoptr(at, value.type.as_pointer())).align = 2


@cache
def split_row(lanes: int, parts: int, converts: bool) -> Callable[..., None]:
    """Return a Numba intrinsic that splits neighbouring elements: ``(vectors, x, out, out_part)``, all int64.

    ``vectors * lanes`` float32, at least one vector, are read at the address `x`. Each part is written as so many
    bfloat16, the first at the address `out`, every other `out_part` bytes after the one before it. `converts` says
    whether the processor's instruction is used.
    """

    @intrinsic
    def split(typingctx, vectors, x, out, out_part):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vectors, x, out, out_part = args
            splitter = _Splitter(builder, lanes, converts)
            halves = ir.VectorType(ir.IntType(16), lanes)
            with loop(builder, "split", vectors, []) as (i, _, _):
                at = builder.mul(i, index(lanes))
                value = splitter.load(_floats(builder, x), at)
                place = builder.add(out, builder.mul(i, index(2 * lanes)))
                for part, word in enumerate(splitter.parts(value, parts)):
                    half = builder.trunc(builder.lshr(word, splitter.word(16)), halves)
                    _store(builder, half, builder.add(place, builder.mul(out_part, index(part))))
            return context.get_dummy_value()

        return types.void(vectors, x, out, out_part), codegen

    return split


@cache
def pack_rows(lanes: int, parts: int, together: int, present: int, converts: bool) -> Callable[..., None]:
    """Return a Numba intrinsic that splits rows of a panel, and puts neighbouring rows of a column side by side.

    The intrinsic takes ``(blocks, w, out, out_part)``, all int64. ``blocks * present`` rows of PANEL float32, at least
    one block, are read at the address `w`. Each part is written as (blocks, PANEL, together) bfloat16, the first at the
    address `out`, every other `out_part` bytes after the one before it.

    Parameters
    ----------
    lanes : int
        Number of float32 values in a vector.
    parts : int
        Number of parts.
    together : int
        How many rows are put side by side, 2 or 4.
    present : int
        How many of these rows there are. The others are zeros.
    converts : bool
        Whether the processor's instruction is used.
    """
    rows = range(present)

    @intrinsic
    def pack(typingctx, blocks, w, out, out_part):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            blocks, w, out, out_part = args
            splitter = _Splitter(builder, lanes, converts)
            zero = splitter.word(0)
            with loop(builder, "pack", blocks, []) as (i, _, _):
                source = builder.mul(i, index(present * PANEL))
                target = builder.add(out, builder.mul(i, index(2 * together * PANEL)))
                for lane in range(0, PANEL, lanes):
                    values = [
                        splitter.load(_floats(builder, w), builder.add(source, index(row * PANEL + lane)))
                        for row in rows
                    ]
                    split = zip(*(splitter.parts(value, parts) for value in values), strict=True)
                    for part, words in enumerate(split):
                        padded = [*words, *[zero] * (together - present)]
                        pairs = [
                            builder.or_(builder.lshr(padded[at], splitter.word(16)), padded[at + 1])
                            for at in range(0, together, 2)
                        ]
                        place = builder.add(target, builder.mul(out_part, index(part)))
                        if together == 4:
                            pairs = [_interleaved(builder, *pairs)]
                        _store(builder, pairs[0], builder.add(place, index(2 * together * lane)))
            return context.get_dummy_value()

        return types.void(blocks, w, out, out_part), codegen

    return pack


def _interleaved(builder: Any, first: Any, second: Any) -> Any:
    """Return the elements of two vectors in turn."""
    lanes = first.type.count
    order = [at for lane in range(lanes) for at in (lane, lanes + lane)]
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, 2 * lanes), order))
