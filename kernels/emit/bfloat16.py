"""Splits float32 into bfloat16, in the order in which the tiles of products read them.

A number is divided into parts, x = x₀ + x₁ + ..., each the bfloat16 nearest to what the ones before it leave, see
:mod:`fgnumba.kernels.emit.precision`. Of two that are as near, the last part is the even one, and any other the greater
in magnitude, which takes two instructions for integers. Processors with AVX512-BF16 have one for the even one, and
others compute the same, except that a subnormal number is zero in one and itself in the other: products count both as
zero. If a number is infinite or NaN, one of its parts is NaN, or it has a single part.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.emit.vectors import BFLOAT, F32, I32, Vectors, index, loop, prefetch_line

AHEAD = 16 * 1024
"""Bytes by which a panel is read ahead of what is packed: as long as products are computed in between, the processor
does not see that it is read from one end to the other."""

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
            bits = b.bitcast(x, self.words)
            if part == 2:
                # Two parts leave at most eight bits.
                upper = b.and_(bits, word(0xFFFF0000))
            elif part + 1 == count:
                upper = self._converted(x) if self.converts else self._rounded(x)
            else:
                upper = b.and_(b.add(bits, word(0x8000)), word(0xFFFF0000))
            yield upper
            x = b.fsub(x, b.bitcast(upper, self.vectors.type))

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


def _times(builder: Any, name: str, n: Any, body: Callable[[Any], None]) -> None:
    """Append a loop of `n` iterations, which may be none."""
    with builder.if_then(builder.icmp_signed(">", n, index(0))), loop(builder, name, n, []) as (i, _, _):
        body(i)


@cache
def split_row(
    lanes: int, parts: int, depth: int, converts: bool, piece: int | None = None
) -> Callable[..., None]:
    """Return a Numba intrinsic that splits neighbouring elements: ``(n, x, out, out_part)``, all int64.

    n float32 are read at the address `x`. Each part is written as bfloat16, and zeros up to the next multiple of
    `depth`; the first part at the address `out`, every other `out_part` bytes after the one before it.

    Parameters
    ----------
    lanes : int
        Number of float32 values in a vector.
    parts : int
        Number of parts.
    depth : int
        What the number of elements written is a multiple of.
    converts : bool
        Whether the processor's instruction is used.
    piece : int, optional
        Bytes from `depth` elements to the next `depth`, if those are a multiple of the lanes. None (the default): they
        follow each other.
    """

    @intrinsic
    def split(typingctx, n, x, out, out_part):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            n, x, out, out_part = args
            whole = builder.sdiv(n, index(lanes))
            done = builder.mul(whole, index(lanes))
            filled = builder.mul(builder.sdiv(builder.add(n, index(depth - 1)), index(depth)), index(depth))

            def at(element: Any, part: int) -> Any:
                if piece is None:
                    place = builder.mul(element, index(2))
                else:
                    before = builder.mul(builder.sdiv(element, index(depth)), index(piece))
                    place = builder.add(before, builder.mul(builder.srem(element, index(depth)), index(2)))
                return builder.add(out, builder.add(builder.mul(out_part, index(part)), place))

            def elements(splitter: _Splitter, first: Any) -> None:
                halves = ir.VectorType(ir.IntType(16), splitter.vectors.lanes)
                value = splitter.load(_floats(builder, x), first)
                for part, word in enumerate(splitter.parts(value, parts)):
                    half = builder.trunc(builder.lshr(word, splitter.word(16)), halves)
                    _store(builder, half, at(first, part))

            def zeros(i: Any) -> None:
                for part in range(parts):
                    _store(builder, ir.Constant(ir.IntType(16), 0), at(builder.add(n, i), part))

            many, one = _Splitter(builder, lanes, converts), _Splitter(builder, 1, False)
            _times(builder, "split", whole, lambda i: elements(many, builder.mul(i, index(lanes))))
            _times(builder, "rest", builder.sub(n, done), lambda i: elements(one, builder.add(done, i)))
            _times(builder, "fill", builder.sub(filled, n), zeros)
            return context.get_dummy_value()

        return types.void(n, x, out, out_part), codegen

    return split


@cache
def pack_rows(lanes: int, parts: int, together: int, depth: int, converts: bool) -> Callable[..., None]:
    """Return a Numba intrinsic that splits rows of a panel, and puts neighbouring rows of a column side by side.

    The intrinsic takes ``(n, w, out, out_part)``, all int64. n rows of PANEL float32 are read at the address `w`. Each
    part is written as (rows / together, PANEL, together) bfloat16, with rows of zeros up to the next multiple of
    `depth`; the first part at the address `out`, every other `out_part` bytes after the one before it.

    Parameters
    ----------
    lanes : int
        Number of float32 values in a vector.
    parts : int
        Number of parts.
    together : int
        How many rows are put side by side, 2 or 4.
    depth : int
        What the number of rows written is a multiple of, itself a multiple of `together`.
    converts : bool
        Whether the processor's instruction is used.
    """

    @intrinsic
    def pack(typingctx, n, w, out, out_part):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            n, w, out, out_part = args
            splitter = _Splitter(builder, lanes, converts)
            whole = builder.sdiv(n, index(together))
            left = builder.sub(n, builder.mul(whole, index(together)))
            written = builder.sdiv(builder.add(n, index(together - 1)), index(together))
            filled = builder.mul(
                builder.sdiv(builder.add(n, index(depth - 1)), index(depth)), index(depth // together)
            )

            def write(block: Any, present: int) -> None:
                source = builder.mul(block, index(together * PANEL))
                target = builder.add(out, builder.mul(block, index(2 * together * PANEL)))
                zeros = [splitter.word(0)] * parts
                first = builder.add(w, builder.mul(source, index(4)))
                for line in range(0, present * PANEL * 4, 64):
                    prefetch_line(builder, builder.add(first, index(AHEAD + line)), level=2)
                for lane in range(0, PANEL, lanes):
                    split = [zeros] * together
                    for row in range(present):
                        at = builder.add(source, index(row * PANEL + lane))
                        split[row] = list(splitter.parts(splitter.load(_floats(builder, w), at), parts))
                    for part in range(parts):
                        pairs = [
                            builder.or_(
                                builder.lshr(split[row][part], splitter.word(16)), split[row + 1][part]
                            )
                            for row in range(0, together, 2)
                        ]
                        words = pairs[0] if together == 2 else _interleaved(builder, *pairs)
                        place = builder.add(target, builder.mul(out_part, index(part)))
                        _store(builder, words, builder.add(place, index(2 * together * lane)))

            _times(builder, "pack", whole, lambda block: write(block, together))
            for present in range(1, together):
                with builder.if_then(builder.icmp_signed("==", left, index(present))):
                    write(whole, present)
            _times(
                builder,
                "fill",
                builder.sub(filled, written),
                lambda block: write(builder.add(written, block), 0),
            )
            return context.get_dummy_value()

        return types.void(n, w, out, out_part), codegen

    return pack


def _interleaved(builder: Any, first: Any, second: Any) -> Any:
    """Return the elements of two vectors in turn."""
    lanes = first.type.count
    order = [at for lane in range(lanes) for at in (lane, lanes + lane)]
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, 2 * lanes), order))
