"""The tile of AMX: up to 32 rows of one weight panel, whose sums stay in the processor's tiles.

A tile register holds 16 rows of 64 bytes. Four of the eight hold sums of 16 x 16 float32, two hold 16 rows of A with 32
bfloat16 each, and two hold 16 pairs of rows of W. One instruction multiplies 16 x 32 by 32 x 16 bfloat16.

Its arithmetic, and therefore that of the twin: the 16 products with first elements of pairs are summed one after the
other, from zero, so are those with second elements, every sum is rounded once, and the sum of both is added to the
result. Subnormal numbers count as zero.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, TDPBF16PS.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.emit.vectors import BYTE, F32, I64, Vectors, declared, index, loop, never_unroll

DEPTH = 32
"""Elements of a row of A that one instruction multiplies."""

TALLEST = 32
"""Rows of the tallest tile."""

GROUP_ROWS = 16
"""Rows of a tile register, and of a group of rows that are stored as it reads them."""

_SIDE = GROUP_ROWS
_ROW = PANEL * 4
"""Bytes of a row of the result, or of a pair of rows of a packed panel."""


@cache
def matrix_tile(
    rows: int, panels: int, terms: tuple[tuple[int, int], ...], twin: bool, grouped: bool = False
) -> Callable[..., None]:
    """Return a Numba intrinsic that adds up Σ aᵢ wⱼ over the terms (i, j), for `rows` rows and `panels` panels.

    The intrinsic takes ``(segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto)``, all int64, in
    words of two bfloat16:

    - segments, offsets, length: a row of a is `segments` runs of `length` words, multiples of ``DEPTH`` elements;
      `offsets` is the address of `segments` int64, the words from the row's address to each run;
    - a, a_part, ld: address of row 0 of a, and words to its next part and to the next row;
    - w, w_part, w_stride: address of the first panel, (K / 2, PANEL, 2) bfloat16, and words to its next part and to the
      next panel;
    - out: address of the result, (rows, panels * PANEL) float32, contiguous;
    - onto: 1: the sums start from the numbers in `out`; 0: they start from zero.

    Parameters
    ----------
    rows, panels : int
        Rows of a, at most `TALLEST`, and panels.
    terms : tuple of (int, int)
        The parts that are multiplied, see :mod:`fgnumba.kernels.emit.precision`.
    twin : bool
        Whether the same bits are computed by ordinary vectors, on any machine.
    grouped : bool
        Whether a is stored as tiles are read: in groups of `GROUP_ROWS` rows, each (K / ``DEPTH``, ``GROUP_ROWS``,
        ``DEPTH``), one after the other. `ld` are then the words to the next group, there is one run, and the caller
        configures the processor's tiles for `rows` rows, see :func:`configured`. Default: False, by rows.

    Notes
    -----
    Cost: for each ``DEPTH`` elements and each term, one instruction for every 16 rows (or fewer) and 16 columns; with
    32 rows, at most as many tiles are loaded as are multiplied. Rows should begin at multiples of 64 bytes: otherwise,
    every load of a tile takes several times as long. Groups lie in as few pages and lines as possible, wherever the
    distance of rows would be a power of two. The sums depend neither on how many rows a tile has nor on how K
    is divided at multiples of ``DEPTH``.
    """

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]
        typingctx, segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto
    ):
        given = segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            segments, offsets, length, a, a_part, ld, w, w_part, w_stride, out, onto = args
            starts = builder.inttoptr(offsets, I64.as_pointer())

            def bytes_of(words: Any) -> Any:
                return builder.mul(words, index(4))

            for panel in range(panels):
                at = builder.add(w, bytes_of(builder.mul(w_stride, index(panel))))
                sums = builder.add(out, index(panel * _ROW))
                places = a, bytes_of(a_part), bytes_of(ld), at, bytes_of(w_part), sums, index(panels * _ROW)
                if not twin:
                    tile_code(builder, (segments, starts, length, *places, onto), rows, terms, grouped)
                    continue
                with loop(builder, "run", segments, []) as (s, _, _):
                    begun = builder.or_(onto, builder.zext(builder.icmp_signed(">", s, index(0)), I64))
                    run = _run(builder, s, starts, length, a, at)
                    given = (_steps(builder, length), run[0], *places[1:3], run[1], *places[4:], begun)
                    twin_code(builder, given, rows, terms, grouped)
            return context.get_dummy_value()

        return types.void(*given), codegen

    return tile


def _run(builder: Any, run: Any, starts: Any, length: Any, a: Any, w: Any) -> tuple[Any, Any]:
    """Return the addresses of a run of a, and of the rows of the packed panel that it is multiplied with."""
    behind = builder.mul(builder.mul(run, length), index(_ROW))
    start = builder.mul(builder.load(builder.gep(starts, [run])), index(4))
    return builder.add(a, start), builder.add(w, behind)


def _steps(builder: Any, length: Any) -> Any:
    """Return how many pieces of ``DEPTH`` elements a run of so many words has."""
    return builder.sdiv(length, index(DEPTH // 2))


def tile_code(builder: Any, args: Any, rows: int, terms: tuple[tuple[int, int], ...], grouped: bool) -> None:
    """Append the instructions of AMX to `builder`, for one panel.

    `args` are ``(segments, starts, length, a, a_part, ld, w, w_part, out, out_ld, onto)``: `starts` is a pointer, all
    others are int64; `length` are words, the others addresses and distances in bytes.
    """
    segments, starts, length, a, a_part, ld, w, w_part, out, out_ld, onto = args
    pointer, void = BYTE.as_pointer(), ir.VoidType()
    heights = _heights(rows)
    sums = [(m, n, 2 * m + n) for m in range(len(heights)) for n in range(2)]

    def do(name: str, kinds: list[Any], *given: Any) -> None:
        builder.call(declared(builder, f"llvm.x86.{name}", void, kinds), given)

    def number(tile: int) -> Any:
        return ir.Constant(BYTE, tile)

    def move(name: str, tile: int, at: Any, stride: Any) -> None:
        do(name, [BYTE, pointer, I64], number(tile), builder.inttoptr(at, pointer), stride)

    def at_sums(m: int, n: int) -> Any:
        return builder.add(out, builder.add(builder.mul(out_ld, index(_SIDE * m)), index(64 * n)))

    if not grouped:
        configure(builder, rows)
    fresh, resumed, ready = (builder.append_basic_block(name) for name in ("fresh", "resumed", "ready"))
    builder.cbranch(builder.icmp_signed("==", onto, index(0)), fresh, resumed)
    builder.position_at_end(fresh)
    for _, _, tile in sums:
        do("tilezero", [BYTE], number(tile))
    builder.branch(ready)
    builder.position_at_end(resumed)
    for m, n, tile in sums:
        move("tileloadd64", tile, at_sums(m, n), out_ld)
    builder.branch(ready)
    builder.position_at_end(ready)
    steps = _steps(builder, length)
    with loop(builder, "run", segments, []) as (run, _, _):
        a_run, w_run = _run(builder, run, starts, length, a, w)
        before = builder.block
        body, done = (builder.append_basic_block(name) for name in ("step", "done"))
        builder.branch(body)
        builder.position_at_end(body)
        k = builder.phi(I64)
        k.add_incoming(index(0), before)
        a_at = builder.add(a_run, builder.mul(k, index(_step(grouped))))
        w_at = builder.add(w_run, builder.mul(k, index(DEPTH // 2 * _ROW)))
        loaded_a = loaded_w = -1
        for i, j in terms:
            if i != loaded_a:
                for m in range(len(heights)):
                    behind = builder.mul(ld, index(m if grouped else _SIDE * m))
                    row = builder.add(builder.mul(a_part, index(i)), behind)
                    move("tileloadd64", 4 + m, builder.add(a_at, row), index(2 * DEPTH) if grouped else ld)
            if j != loaded_w:
                for n in range(2):
                    column = builder.add(builder.mul(w_part, index(j)), index(64 * n))
                    move("tileloadd64", 6 + n, builder.add(w_at, column), index(_ROW))
            loaded_a, loaded_w = i, j
            for m, n, tile in sums:
                do("tdpbf16ps", [BYTE] * 3, number(tile), number(4 + m), number(6 + n))
        k_next = builder.add(k, index(1))
        k.add_incoming(k_next, body)
        never_unroll(builder.module, builder.cbranch(builder.icmp_signed("<", k_next, steps), body, done))
        builder.position_at_end(done)
    for m, n, tile in sums:
        move("tilestored64", tile, at_sums(m, n), out_ld)
    if not grouped:
        release(builder)


@cache
def configured(rows: int, twin: bool) -> Callable[..., None]:
    """Return a Numba intrinsic without arguments that configures the processor's tiles for `rows` rows of a.

    It takes as long as some hundred multiplications of tiles' rows, so that it is done once for many tiles. All tiles
    are zero afterwards. With 0 rows, the tiles are given back to the processor, which then saves no state of them. A
    `twin` has nothing to configure.
    """

    @intrinsic
    def configure_tiles(typingctx):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            if not twin:
                configure(builder, rows) if rows else release(builder)
            return context.get_dummy_value()

        return types.void(), codegen

    return configure_tiles


def configure(builder: Any, rows: int) -> None:
    """Append the configuration of tiles for `rows` rows to `builder`."""
    pointer = BYTE.as_pointer()
    builder.call(
        declared(builder, "llvm.x86.ldtilecfg", ir.VoidType(), [pointer]),
        [_configuration(builder, _heights(rows))],
    )


def release(builder: Any) -> None:
    """Append the release of tiles to `builder`."""
    builder.call(declared(builder, "llvm.x86.tilerelease", ir.VoidType(), []), [])


def _heights(rows: int) -> list[int]:
    return [min(_SIDE, rows - first) for first in range(0, rows, _SIDE)]


def _step(grouped: bool) -> int:
    """Return the bytes from one piece of a row, of ``DEPTH`` elements, to the next."""
    return 2 * DEPTH * (GROUP_ROWS if grouped else 1)


def _configuration(builder: Any, heights: list[int]) -> Any:
    """Return the address of the tiles' configuration: the rows of each, and 64 bytes for every row."""
    rows = [heights[m] for m in range(len(heights)) for _ in range(2)]
    rows += [0] * (4 - len(rows)) + heights + [0] * (2 - len(heights)) + [_SIDE] * 2
    data = bytearray(64)
    data[0] = 1
    for tile, count in enumerate(rows):
        data[16 + 2 * tile] = 64 if count else 0
        data[48 + tile] = count
    constant = ir.Constant(ir.ArrayType(BYTE, 64), data)
    name = "tiles-" + "-".join(map(str, heights))
    found = builder.module.globals.get(name)
    if found is None:
        found = ir.GlobalVariable(builder.module, constant.type, name)
        found.linkage, found.global_constant, found.initializer, found.align = "internal", True, constant, 64
    return builder.bitcast(found, BYTE.as_pointer())


def twin_code(builder: Any, args: Any, rows: int, terms: tuple[tuple[int, int], ...], grouped: bool) -> None:
    """Append vector instructions that compute the same bits to `builder`. The arguments are those of `tile_code`."""
    steps, a, a_part, ld, w, w_part, out, out_ld, onto = args
    vectors = Vectors(builder, _SIDE)

    def floats(at: Any) -> Any:
        return builder.inttoptr(at, F32.as_pointer())

    with (
        builder.if_then(builder.icmp_signed("==", onto, index(0))),
        loop(builder, "zero", index(rows), []) as (
            m,
            _,
            _,
        ),
    ):
        for n in range(2):
            vectors.store(vectors.zero, floats(builder.add(out, builder.mul(m, out_ld))), index(n * _SIDE))
    with loop(builder, "step", steps, []) as (k, _, _):
        a_at = builder.add(a, builder.mul(k, index(_step(grouped))))
        w_at = builder.add(w, builder.mul(k, index(DEPTH // 2 * _ROW)))
        for i, j in terms:
            a_term = builder.add(a_at, builder.mul(a_part, index(i)))
            w_term = floats(builder.add(w_at, builder.mul(w_part, index(j))))
            with loop(builder, "row", index(rows), []) as (m, _, _):
                if grouped:
                    group = builder.mul(builder.sdiv(m, index(_SIDE)), ld)
                    in_group = builder.mul(builder.srem(m, index(_SIDE)), index(2 * DEPTH))
                    behind = builder.add(group, in_group)
                else:
                    behind = builder.mul(m, ld)
                row = floats(builder.add(a_term, behind))
                sums = floats(builder.add(out, builder.mul(m, out_ld)))
                for n in range(2):
                    with loop(builder, "pair", index(DEPTH // 2), [vectors.zero, vectors.zero]) as (
                        pair,
                        (first, second),
                        following,
                    ):
                        element = vectors.splat(builder.load(builder.gep(row, [pair])))
                        place = builder.add(builder.mul(pair, index(PANEL)), index(n * _SIDE))
                        a_first, a_second = vectors.halves(element)
                        w_first, w_second = vectors.halves(vectors.load(w_term, place))
                        following += [
                            vectors.fused_multiply_add(a_first, w_first, first),
                            vectors.fused_multiply_add(a_second, w_second, second),
                        ]
                    both = builder.fadd(following[0], following[1])
                    before = vectors.load(sums, index(n * _SIDE))
                    vectors.store(builder.fadd(before, both), sums, index(n * _SIDE))
