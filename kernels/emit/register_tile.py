"""The register tile: the inner loop of every matrix product, and the peak multiply-add rate to compare it with.

A register tile is a small block of the result, a few rows of one to four weight panels, whose sums stay in vector
registers while the loop runs over K.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vector import CACHE_LINE, PANEL, InstructionSet, of_vectors
from fgnumba.kernels.emit.vectors import (
    BYTE,
    F32,
    I32,
    I64,
    Vectors,
    index,
    never_unroll,
    opaque,
    prefetch_line,
)


@cache
def product_tile(
    isa: InstructionSet,
    rows: int,
    panels: int,
    weights: bool,
    entries: str | None,
    width: int = PANEL,
    channelwise: bool = False,
    ahead: bool = False,
    terms: tuple[tuple[int, int], ...] = (),
) -> Callable[..., None]:
    """Return a Numba intrinsic that computes the register tile ``out = a W + c V`` for `rows` rows and `panels` panels.

    The intrinsic takes ``(segments, offsets, length, a, c, ld, w, w_stride, v, v_stride, out, onto, next, step)``, all
    int64:

    - segments, offsets, length: a row of a, and of c, is `segments` runs of `length` neighbouring elements, so K =
      segments * length. `offsets` is the address of `segments` int64: the elements from the row's address to each
      run;
    - a, c, ld: addresses of row 0 of a and of c, and elements from one row to the next;
    - w, w_stride: address of the first panel of W, and elements from one panel to the next;
    - v, v_stride: the same for V;
    - out: address of the result, (rows, panels * PANEL) float32, contiguous;
    - onto: 1: the sums start from the numbers in `out`; 0: they start from zero;
    - next, step: read only with `ahead`, see there.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    rows, panels : int
        Rows of a and panels of W that the tile spans.
    weights : bool
        Whether the term a W is there, with W packed as (panels, K, PANEL) float32.
    entries : str or None
        ``"float"``: V is packed like W. ``"signs"``: V is (panels, K) uint32, one word of sign bits for each row of a
        panel, and a set bit means -1. None: there is no term c V.
    width : int
        Columns of each panel that are computed, a multiple of the lanes. The other columns of `out` are not written.
    channelwise : bool
        True: column n multiplies an element of its own, out[n] = Σ a_k[n] W[k, n] + c_k[n] V[k, n]. A vector of a is
        loaded where an ordinary tile loads one element for all columns.
    ahead : bool
        True: step k of K also loads the cache line at ``next + k * step`` (in bytes) into the second-level cache. The
        caller points it at what later tiles will read from memory. Without it the first tile of a panel waits for the
        memory, and the other tiles do not. Measured on Zen 5 with 64 rows and weights too large for any cache: 0.86 of
        the peak without, 0.95 with it.
    terms : tuple of (int, int)
        If there are any, a float32 of a and W stands for a pair of bfloat16, of neighbouring elements of a row, and of
        neighbouring rows of W, and the tile computes Σ aᵢ wⱼ over the terms (i, j), see
        :mod:`fgnumba.kernels.emit.precision`. There is no c V; the intrinsic takes ``(segments, offsets, length, a,
        a_part, ld, w, w_part, w_stride, out, onto)``, where `a_part` and `w_part` are the elements from a part to the
        next. For each pair, the terms are added in their order, so that the sums depend neither on the tile's shape nor
        on how K is divided. The set's dots are ``pairs``.

    Notes
    -----
    A tile of one or two panels also loads W (and a float V) into the first-level cache, ``isa.near`` rows before it
    multiplies them. This matters where the weights come from memory, and most for few rows: on Zen 5, a product of
    8 x 1024 x 1024 becomes two fifths faster. Tiles of four panels and one or two rows would become slower, because
    they keep the memory busy anyway.

    Cost: for each step of K and each term, rows * panels * PANEL multiply-adds, with all sums in registers. Each step
    reads one row of each panel of W and V, and one element (or vector, if `channelwise`) of each row of a and c. The
    sums run over K in plain order, the same for every tile shape.
    """
    per_panel = width // isa.lanes
    columns = [(n // per_panel, n % per_panel * isa.lanes) for n in range(panels * per_panel)]

    def code() -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            segments, offsets, length, a, c, ld, w, w_stride, v, v_stride, out, onto, later, step = args
            a_part, w_part = c, v
            a, c, w, out = (builder.inttoptr(p, F32.as_pointer()) for p in (a, c, w, out))
            v = builder.inttoptr(v, (I32 if entries == "signs" else F32).as_pointer())
            offsets = builder.inttoptr(offsets, I64.as_pointer())
            vectors = Vectors(builder, isa.lanes)

            entry = builder.block
            resume, segment, loop, following, done = (
                builder.append_basic_block(name) for name in ("resume", "segment", "k", "following", "done")
            )
            out_at = [
                [index((m * panels + panel) * PANEL + lane) for panel, lane in columns] for m in range(rows)
            ]
            apart = _row_distances(builder, ld, rows)
            w_panel = [builder.gep(w, [builder.mul(w_stride, index(p))]) for p in range(panels)]
            a_from, w_from = (
                {part: builder.mul(apart_by, index(part)) for part in sorted({term[at] for term in terms})}
                for at, apart_by in ((0, a_part), (1, w_part))
            )
            v_panel = [builder.gep(v, [builder.mul(v_stride, index(p))]) for p in range(panels)]
            builder.cbranch(builder.icmp_signed("==", onto, index(0)), segment, resume)
            builder.position_at_end(resume)
            before = [[vectors.load(out, at) for at in row] for row in out_at]
            builder.branch(segment)

            builder.position_at_end(segment)
            s, start = builder.phi(I64), builder.phi(I64)
            outer = [[builder.phi(vectors.type) for _ in columns] for _ in range(rows)]
            zeros = [[vectors.zero for _ in columns] for _ in range(rows)]
            for block, values in ((entry, zeros), (resume, before)):
                s.add_incoming(index(0), block)
                start.add_incoming(index(0), block)
                _incoming(outer, values, block)
            offset = builder.load(builder.gep(offsets, [s]))
            a_run, c_run = builder.gep(a, [offset]), builder.gep(c, [offset])
            builder.branch(loop)

            builder.position_at_end(loop)
            i, k = builder.phi(I64), builder.phi(I64)
            i.add_incoming(index(0), segment)
            k.add_incoming(start, segment)
            sums = [[builder.phi(vectors.type) for _ in columns] for _ in range(rows)]
            _incoming(sums, outer, segment)
            totals = [list(row) for row in sums]

            def entries_of(panel: list[Any]) -> list[Any]:
                at = builder.mul(k, index(PANEL))
                return [vectors.load(panel[p], builder.add(at, index(lane))) for p, lane in columns]

            multiply_add = vectors.multiply_add
            if terms:
                multiply_add = vectors.dot_pairs_twin if isa.twin else vectors.dot_pairs

            def accumulate(run: Any, operand: list[Any]) -> None:
                first = builder.bitcast(builder.gep(run, [i]), BYTE.as_pointer())
                for m, distance in enumerate(apart):
                    at = builder.bitcast(builder.gep(first, [distance]), F32.as_pointer())
                    element = None if channelwise else vectors.splat(builder.load(at))
                    for n, (p, lane) in enumerate(columns):
                        factor = vectors.load(at, index(p * PANEL + lane)) if channelwise else element
                        totals[m][n] = multiply_add(factor, operand[n], totals[m][n])

            # Prefetches come first. The compiler does not move loads across a prefetch, and loads that all had to come
            # before one would take registers from the sums.
            if ahead:
                prefetch_line(builder, builder.add(later, builder.mul(k, step)), level=2)
            if isa.near and panels <= 2:
                read = (w_panel if weights else []) + (v_panel if entries == "float" else [])
                for base in read:
                    for line in range(0, width, CACHE_LINE // 4):
                        at = builder.add(builder.mul(k, index(PANEL)), index(isa.near * PANEL + line))
                        prefetch_line(builder, builder.ptrtoint(builder.gep(base, [at]), I64), level=1)
            w_parts = {
                j: entries_of([builder.gep(panel, [part]) for panel in w_panel]) for j, part in w_from.items()
            }
            for left, right in terms:
                accumulate(builder.gep(a_run, [a_from[left]]), w_parts[right])
            if weights and not terms:
                accumulate(a_run, entries_of(w_panel))
            if entries == "signs":
                words = [builder.load(builder.gep(panel, [k])) for panel in v_panel]
                accumulate(c_run, [vectors.signs(words[p], lane) for p, lane in columns])
            elif entries == "float":
                accumulate(c_run, entries_of(v_panel))
            i_next, k_next = builder.add(i, index(1)), builder.add(k, index(1))
            i.add_incoming(i_next, loop)
            k.add_incoming(k_next, loop)
            _incoming(sums, totals, loop)
            again = builder.cbranch(builder.icmp_signed("<", i_next, length), loop, following)
            never_unroll(builder.module, again)

            builder.position_at_end(following)
            s_next = builder.add(s, index(1))
            s.add_incoming(s_next, following)
            start.add_incoming(k_next, following)
            _incoming(outer, totals, following)
            builder.cbranch(builder.icmp_signed("<", s_next, segments), segment, done)

            builder.position_at_end(done)
            for row, offsets_out in zip(totals, out_at, strict=True):
                for value, at in zip(row, offsets_out, strict=True):
                    vectors.store(value, out, at)
            return context.get_dummy_value()

        return codegen

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]
        typingctx, segments, offsets, length, a, c, ld, w, w_stride, v, v_stride, out, onto, following, step
    ):
        given = segments, offsets, length, a, c, ld, w, w_stride, v, v_stride, out, onto, following, step
        return types.void(*given), code()

    @intrinsic
    def tile_of_pairs(  # type: ignore[no-untyped-def]
        typingctx, segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto
    ):
        given = segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto
        write = code()

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            *before, w_part, w_stride, out, onto = args
            zero = index(0)
            return write(context, builder, sig, [*before, w_stride, w_part, zero, out, onto, zero, zero])

        return types.void(*given), codegen

    return tile_of_pairs if terms else tile


def _row_distances(builder: Any, ld: Any, rows: int) -> list[Any]:
    """Return the bytes from row 0 to each of `rows` rows.

    Left to itself, the compiler finds each row's address by adding to the previous one, which takes one addition for
    every row and step of K, and with many rows it keeps the addresses in memory. Here the odd multiples of the
    distance are hidden from the compiler (``opaque``), so that it cannot relate them. It then addresses every row
    directly: a base register, plus one of a few distance registers times 1, 2, 4 or 8.
    """
    distances = [index(0)]
    odd: dict[int, Any] = {}
    for row in range(1, rows):
        power = row & -row
        if row // power not in odd:
            odd[row // power] = opaque(builder, builder.mul(ld, index(4 * (row // power))))
        distances.append(builder.mul(odd[row // power], index(power)))
    return distances


def _incoming(phis: list[list[Any]], values: list[list[Any]], block: Any) -> None:
    for row, row_values in zip(phis, values, strict=True):
        for phi, value in zip(row, row_values, strict=True):
            phi.add_incoming(value, block)


@of_vectors
def multiply_add_peak(isa: InstructionSet) -> Callable[..., float]:
    """Return a Numba intrinsic ``(n) -> float32``: n rounds of independent multiply-adds that touch no memory.

    Each round is ``isa.accumulators`` vector multiply-adds. The time of many rounds gives the processor's peak rate.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    """

    @intrinsic
    def peak(typingctx, rounds):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            vectors = Vectors(builder, isa.lanes)
            entry = builder.block
            loop, done = builder.append_basic_block("round"), builder.append_basic_block("done")
            # The seeds depend on the argument. Otherwise the compiler would replace the loop by a constant.
            seed = vectors.splat(builder.sitofp(values[0], F32))
            builder.branch(loop)
            builder.position_at_end(loop)
            i = builder.phi(I64)
            i.add_incoming(index(0), entry)
            sums = [builder.phi(vectors.type) for _ in range(isa.accumulators)]
            for n, phi in enumerate(sums):
                phi.add_incoming(ir.Constant(vectors.type, [float(n)] * isa.lanes), entry)
            half = ir.Constant(vectors.type, [0.5] * isa.lanes)
            totals = [vectors.multiply_add(phi, half, seed) for phi in sums]
            i_next = builder.add(i, index(1))
            i.add_incoming(i_next, loop)
            for phi, value in zip(sums, totals, strict=True):
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", i_next, values[0]), loop, done)
            builder.position_at_end(done)
            total = totals[0]
            for value in totals[1:]:
                total = builder.fadd(total, value)
            return builder.extract_element(total, ir.Constant(I32, 0))

        return types.float32(types.int64), codegen

    return peak
