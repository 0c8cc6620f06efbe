"""The register tile of products of bfloat16 in quads, four successive elements of K at a time: see ``emit.bfmmla``.

It is divided into blocks of a few pairs of rows and a few groups of four columns, whose sums stay in registers while
the loop runs over K.
"""

from collections.abc import Callable
from functools import cache
from itertools import groupby
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.bfmmla import FACTOR, SUMS, bfmmla, bfmmla_twin
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.emit.vectors import I32, I64, Vectors, index, loop, never_unroll

QUAD = 4
"""Successive elements of K that one instruction multiplies."""

_REGISTERS = 28
"""Vector registers for sums and elements of A, of 32. With two less for the others, the compiler moves sums about."""
_GROUP = 4
"""Columns of a group. Their sums with a pair of rows are two registers, and so are their elements of W."""

Terms = tuple[tuple[int, int], ...]


def tallest(terms: Terms) -> int:
    """Return the number of rows of the tallest block. A tile of a multiple of it loads least for each product."""
    return 2 * (_REGISTERS // (4 + _parts(terms)))


@cache
def quad_tile(isa: InstructionSet, rows: int, panels: int, width: int, terms: Terms) -> Callable[..., None]:
    """Return a Numba intrinsic that computes the register tile ``out = Σ aᵢ wⱼ`` over the terms (i, j).

    The intrinsic takes ``(segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto)``, all int64.
    Distances are counted in words of 4 bytes, two elements:

    - segments, offsets, length: a row of a is `segments` runs of `length` neighbouring words, a multiple of two, so
      K = 2 * segments * length. `offsets` is the address of `segments` int64: the words from the row's address to each
      run;
    - a, a_part, ld: address of row 0 of a, bfloat16, and words to its next part and to the next row;
    - w, w_part, w_stride: address of the first panel of W, (K / 4, PANEL, 4) bfloat16, and words to its next part and
      to the next panel;
    - out: address of the result, (rows, panels * PANEL) float32, contiguous;
    - onto: 1: the sums start from the numbers in `out`; 0: they start from zero.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set. The twin's tile differs from the other's in the instruction alone.
    rows, panels : int
        Rows of a and panels of W that the tile spans.
    width : int
        Columns of each panel that are computed, from 1 to PANEL; some of the next three may be written, too.
    terms : tuple of (int, int)
        The parts that are multiplied, see :mod:`fgnumba.kernels.emit.precision`.

    Notes
    -----
    A sum adds up the quads of K in plain order and, for each quad, the terms in theirs. So it does not depend on the
    tile's shape, or on how K is divided at multiples of four.

    Cost: for each quad and term, ``bfmmla`` multiplies a pair of rows and two columns, which are 16 multiply-adds. A
    block of p pairs and g groups needs 2 p g sums. It loads each part of its rows (8 bytes a row) and of its columns
    (16 bytes for two) once, and keeps the former: p (2 g + parts) registers. The tallest block is 10 x 8 with one part,
    and 8 x 8 with two and three: 0.70, 0.50 and 0.38 loads an instruction, or 0.044, 0.031 and 0.023 a multiply-add.
    Where `rows` is odd, the second row of the last pair is its first again.
    """

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]
        typingctx, segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto
    ):
        signature = types.void(segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            quad_code(builder, args, rows, panels, width, terms, isa.twin)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def quad_code(builder: Any, args: Any, rows: int, panels: int, width: int, terms: Terms, twin: bool) -> None:
    """Append a tile's instructions to `builder`; `args` are what the intrinsic takes."""
    tile = _Tile(builder, args, panels, terms, twin)
    count = -(-rows // tallest(terms))
    pairs = -(-rows // 2)
    ends = [2 * (pairs * (block + 1) // count) for block in range(count)]
    for first, end in zip([0, *ends[:-1]], ends, strict=True):
        chosen = range(first, min(end, rows))
        columns = _GROUP * _groups(-(-len(chosen) // 2), _parts(terms))
        for panel in range(panels):
            for column in range(0, width, columns):
                tile.block(chosen, panel, range(column, min(column + columns, width), _GROUP))


def _parts(terms: Terms) -> int:
    return 1 + max(i for i, _ in terms)


def _groups(pairs: int, parts: int) -> int:
    """Return how many groups of columns a block has beside so many pairs of rows."""
    return next(g for g in (8, 4, 2) if pairs * (2 * g + parts) <= _REGISTERS)


class _Tile:
    """Appends a tile's blocks."""

    def __init__(self, builder: Any, args: Any, panels: int, terms: Terms, twin: bool) -> None:
        self.builder, self.panels, self.terms = builder, panels, terms
        self.multiply = bfmmla_twin if twin else bfmmla
        self.vectors = Vectors(builder, SUMS.count)
        self.segments, offsets, length, self.a, a_part, ld, self.w, w_part, w_stride, out, onto = args
        self.quads = builder.lshr(length, index(1))
        self.a_part, self.ld, self.w_part, self.w_stride = map(self.bytes, (a_part, ld, w_part, w_stride))
        self.offsets = builder.inttoptr(offsets, I64.as_pointer())
        self.out = builder.inttoptr(out, SUMS.element.as_pointer())
        self.onto = builder.icmp_signed("!=", onto, index(0))

    def block(self, rows: range, panel: int, groups: range) -> None:
        """Append a block: some rows, and some groups of a panel's columns, each given by its first column."""
        b = self.builder
        pairs = [rows[at : at + 2] for at in range(0, len(rows), 2)]
        places = [[self.place(pair, panel, group) for group in groups] for pair in pairs]
        sums = [each for row in places for place in row for each in self.start(place)]
        panel_at = b.add(self.w, b.mul(self.w_stride, index(panel)))
        with loop(b, "segment", self.segments, [index(0), *sums]) as (segment, carried, following):
            past, *sums = carried
            a_at = self.runs(pairs, b.load(b.gep(self.offsets, [segment])))
            w_at = b.add(panel_at, b.mul(past, index(PANEL * QUAD * 2)))
            with loop(b, "quad", self.quads, sums) as (quad, carried, totals):
                totals.extend(self.products(quad, a_at, w_at, groups, carried))
                body = b.block
            never_unroll(b.module, body.terminator)
            following.extend([b.add(past, self.quads), *totals])
        ends = iter(totals)
        for row in places:
            for place in row:
                halves = self.exchange(next(ends), next(ends))
                for value, at in zip(halves, place, strict=False):
                    self.vectors.store(value, self.out, at)

    def place(self, pair: range, panel: int, group: int) -> list[Any]:
        """Return where the sums of a pair of rows and a group of columns are in the result: a place for each row."""
        return [index((row * self.panels + panel) * PANEL + group) for row in pair]

    def start(self, place: list[Any]) -> tuple[Any, Any]:
        """Return the sums to begin with. Rows in the result that do not count are read for nothing, and are cheap."""
        held = [self.vectors.load(self.out, at) for at in place]
        first, last = (
            self.builder.select(self.onto, each, self.vectors.zero) for each in (held[0], held[-1])
        )
        return self.exchange(first, last)

    def exchange(self, first: Any, second: Any) -> tuple[Any, Any]:
        """Return two rows of four sums as two blocks of 2 x 2, or such blocks as rows."""
        orders = ((0, 1, 4, 5), (2, 3, 6, 7))
        lower, upper = (
            self.builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, 4), list(order)))
            for order in orders
        )
        return lower, upper

    def runs(self, pairs: list[range], offset: Any) -> dict[tuple[int, int], list[Any]]:
        """Return the addresses of a run of each part i and pair p, by (i, p): one for each row."""
        b = self.builder
        at = b.add(self.a, self.bytes(offset))
        return {
            (i, p): [
                b.add(b.add(at, b.mul(self.a_part, index(i))), b.mul(self.ld, index(row))) for row in pair
            ]
            for i in range(_parts(self.terms))
            for p, pair in enumerate(pairs)
        }

    def products(
        self, quad: Any, a_at: dict[Any, list[Any]], w_at: Any, groups: range, sums: Any
    ) -> list[Any]:
        """Return `sums` plus the terms of one quad.

        The terms with one part of W are added to all sums of a group before the next group is loaded, so that few
        registers hold elements of W. Sums of different pairs follow each other, because each waits for its last.
        """
        b = self.builder
        a = {key: self.pair(quad, at) for key, at in a_at.items()}
        pairs = len(sums) // (2 * len(groups))
        totals = list(sums)
        here = b.add(w_at, b.mul(quad, index(PANEL * QUAD * 2)))
        for j, terms in groupby(self.terms, key=lambda term: term[1]):
            parts = [i for i, _ in terms]
            part_at = b.add(here, b.mul(self.w_part, index(j)))
            for g, column in enumerate(groups):
                at = [b.add(part_at, index((column + half) * QUAD * 2)) for half in (0, 2)]
                w = [self.load(each, FACTOR) for each in at]
                for i in parts:
                    for p in range(pairs):
                        for half in (0, 1):
                            n = 2 * (p * len(groups) + g) + half
                            totals[n] = self.multiply(b, totals[n], a[i, p], w[half])
        return totals

    def pair(self, quad: Any, at: list[Any]) -> Any:
        """Return four elements of each row of a pair, or twice those of the only one."""
        b = self.builder
        value = ir.Constant(ir.VectorType(I64, 2), ir.Undefined)
        held = [self.load(b.add(each, b.shl(quad, index(3))), I64) for each in at]
        for lane, each in enumerate((held[0], held[-1])):
            value = b.insert_element(value, each, ir.Constant(I32, lane))
        return b.bitcast(value, FACTOR)

    def bytes(self, words: Any) -> Any:
        return self.builder.shl(words, index(2))

    def load(self, address: Any, kind: ir.Type) -> Any:
        value = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        value.align = 2
        return value
