"""Copies rows of float32 or float64, multiplied by a number each, alone or added to other rows.

A loop that Numba compiles takes tens of cycles to begin with each row, which is as long as a short row takes here.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vectors import F32, F64, I32, I64, Vectors, index, loop

LANES = {4: 16, 8: 8}
"""Elements of a vector, by the bytes of an element, with every instruction set: LLVM splits vectors where it must."""


@cache
def scaled_rows(wide: bool, added: bool) -> Callable[..., None]:
    """Return a Numba intrinsic that computes ``out_r = f_r a_r``, or with `added` ``out_r = f_r a_r + g_r b_r``.

    The intrinsic takes ``(rows, columns, a, a_row, f, f_step, b, b_row, g, out, out_row, finite)``, all int64:

    - rows, columns: at least 1, and at least ``LANES``;
    - a, a_row, b, b_row, out, out_row: addresses of rows, and elements from one to the next. `b` is read only with
      `added`. out must not overlap a or b;
    - f, f_step, g: addresses of f and g, and elements from one f to the next, 0 or 1;
    - finite: address of an int64, which becomes 0 if an element of a is not finite.

    Parameters
    ----------
    wide : bool
        Whether the numbers are float64.
    added : bool
        Whether the second term is there.

    Notes
    -----
    Cost: reads a and b once, writes out once. The last vector of a row ends with the row, and may overlap the one
    before.
    """
    element, itemsize = (F64, 8) if wide else (F32, 4)
    lanes = LANES[itemsize]

    @intrinsic
    def scaled(  # type: ignore[no-untyped-def]
        typingctx, rows, columns, a, a_row, f, f_step, b, b_row, g, out, out_row, finite
    ):
        signature = types.void(*(types.int64,) * 12)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, columns, a, a_row, f, f_step, b, b_row, g, out, out_row, finite = args
            a, f, b, g, out = (builder.inttoptr(p, element.as_pointer()) for p in (a, f, b, g, out))
            vectors = Vectors(builder, lanes, element)
            count = builder.sdiv(builder.add(columns, index(lanes - 1)), index(lanes))
            end = builder.sub(columns, index(lanes))
            with loop(builder, "row", rows, [vectors.zero]) as (r, (odd,), odd_after):
                factor = vectors.splat(builder.load(builder.gep(f, [builder.mul(r, f_step)])))
                other = vectors.splat(builder.load(builder.gep(g, [r]))) if added else None
                from_a, from_b, to = (
                    builder.gep(base, [builder.mul(r, row)])
                    for base, row in ((a, a_row), (b, b_row), (out, out_row))
                )
                with loop(builder, "vector", count, [odd]) as (i, (odd,), following):
                    place = builder.mul(i, index(lanes))
                    place = builder.select(builder.icmp_signed("<", place, end), place, end)
                    x = vectors.load(from_a, place)
                    value = builder.fmul(x, factor)
                    if added:
                        # Rounded before it is added: opposite terms of one size cancel to zero.
                        value = builder.fadd(value, builder.fmul(vectors.load(from_b, place), other))
                    vectors.store(value, to, place)
                    # The difference of an infinity, or a NaN, and itself is NaN.
                    following.append(builder.fadd(odd, builder.fsub(x, x)))
                odd_after += following
            total = across(builder, vectors, odd_after[0])
            place = builder.inttoptr(finite, I64.as_pointer())
            is_odd = builder.fcmp_unordered("uno", total, ir.Constant(element, 0.0))
            kept = builder.select(is_odd, index(0), builder.load(place))
            builder.store(kept, place)
            return context.get_dummy_value()

        return signature, codegen

    return scaled


@cache
def lane_sums(wide: bool) -> Callable[..., None]:
    """Return a Numba intrinsic ``(rows, a, out)``: out_r is the sum of the ``LANES`` elements of row r of a.

    Rows follow one another without gaps. Sums are taken pair by pair, elements that are half a row apart first.
    """
    element, itemsize = (F64, 8) if wide else (F32, 4)
    lanes = LANES[itemsize]

    @intrinsic
    def sums(typingctx, rows, a, out):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            a, out = (builder.inttoptr(p, element.as_pointer()) for p in args[1:])
            vectors = Vectors(builder, lanes, element)
            with loop(builder, "row", args[0], []) as (r, _, _):
                total = across(builder, vectors, vectors.load(a, builder.mul(r, index(lanes))))
                builder.store(total, builder.gep(out, [r]))
            return context.get_dummy_value()

        return types.void(rows, a, out), codegen

    return sums


@cache
def row_dots(wide: bool) -> Callable[..., None]:
    """Return a Numba intrinsic ``(rows, columns, a, a_row, b, b_row, out)``: out_r = Σ_c a_rc b_rc.

    There are at least ``LANES`` columns. ``LANES`` sums run along a row, and are then added pair by pair.
    """
    element, word, itemsize = (F64, I64, 8) if wide else (F32, I32, 4)
    lanes = LANES[itemsize]

    @intrinsic
    def dots(typingctx, rows, columns, a, a_row, b, b_row, out):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, columns, a, a_row, b, b_row, out = args
            a, b, out = (builder.inttoptr(p, element.as_pointer()) for p in (a, b, out))
            vectors = Vectors(builder, lanes, element)
            numbers = ir.Constant(ir.VectorType(word, lanes), list(range(lanes)))
            zeros = ir.Constant(ir.VectorType(I32, lanes), None)
            undefined = ir.Constant(numbers.type, ir.Undefined)
            count = builder.sdiv(builder.add(columns, index(lanes - 1)), index(lanes))
            end = builder.sub(columns, index(lanes))
            with loop(builder, "row", rows, []) as (r, _, _):
                from_a, from_b = (
                    builder.gep(base, [builder.mul(r, row)]) for base, row in ((a, a_row), (b, b_row))
                )
                with loop(builder, "vector", count, [vectors.zero]) as (i, (total,), following):
                    first = builder.mul(i, index(lanes))
                    place = builder.select(builder.icmp_signed("<", first, end), first, end)
                    # The last vector ends with the row; lanes that the one before had are left out.
                    again = builder.sub(first, place)
                    again = again if wide else builder.trunc(again, I32)
                    again = builder.insert_element(undefined, again, ir.Constant(I32, 0))
                    again = builder.shuffle_vector(again, undefined, zeros)
                    new = builder.icmp_signed(">=", numbers, again)
                    x = builder.select(new, vectors.load(from_a, place), vectors.zero)
                    y = builder.select(new, vectors.load(from_b, place), vectors.zero)
                    following.append(vectors.multiply_add(x, y, total))
                builder.store(across(builder, vectors, following[0]), builder.gep(out, [r]))
            return context.get_dummy_value()

        return types.void(rows, columns, a, a_row, b, b_row, out), codegen

    return dots


def across(
    builder: Any, vectors: Vectors, values: Any, combine: Callable[[Any, Any], Any] | None = None
) -> Any:
    """Return the sum of a vector's lanes, or what `combine` makes of them, pair by pair."""
    size = vectors.lanes // 2
    while size:
        order = ir.Constant(ir.VectorType(I32, vectors.lanes), [i ^ size for i in range(vectors.lanes)])
        other = builder.shuffle_vector(values, ir.Constant(vectors.type, ir.Undefined), order)
        values = builder.fadd(values, other) if combine is None else combine(values, other)
        size //= 2
    return builder.extract_element(values, ir.Constant(I32, 0))
