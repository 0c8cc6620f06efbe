"""Passes over an image that treat each channel by itself: a vector of channels at a time, down all pixels.

What belongs to a channel stays in a register along the way; a loop over pixels that has all channels inside would read
it anew for every pixel, and check at each whether its arrays overlap.
"""

from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from typing import Any

from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vectors import F32, I64, Vectors, index
from fgnumba.kernels.vector import InstructionSet


@contextmanager
def _loop(builder: Any, name: str, n: Any, carried: list[Any]) -> Any:
    """Append a loop of n >= 1 rounds; yields its counter, the carried values, and the list to put the next ones in."""
    before, body, after = (
        builder.block,
        builder.append_basic_block(name),
        builder.append_basic_block(f"{name}-end"),
    )
    builder.branch(body)
    builder.position_at_end(body)
    i = builder.phi(I64)
    i.add_incoming(index(0), before)
    phis = [builder.phi(value.type) for value in carried]
    for phi, value in zip(phis, carried, strict=True):
        phi.add_incoming(value, before)
    following: list[Any] = []
    yield i, phis, following
    i_next = builder.add(i, index(1))
    end = builder.block
    i.add_incoming(i_next, end)
    for phi, value in zip(phis, following, strict=True):
        phi.add_incoming(value, end)
    builder.cbranch(builder.icmp_signed("<", i_next, n), body, after)
    builder.position_at_end(after)


@cache
def channel_sums(isa: InstructionSet, form: str) -> Callable[..., None]:
    """Return the sum over the pixels of an image for each channel, as a Numba intrinsic.

    It takes ``(rows, columns, vectors, x, other, mean, row, column, out)``, all int64 of at least 1: pixels along both
    sides; vectors of channels; the addresses of x, of x' and of the channels' means; the elements between rows
    and between columns of x and x'; the address of the sums. A row is summed by itself first: one sum of all
    pixels would lose more.

    Parameters
    ----------
    form : ``"values"``: Σ x. ``"squares"``: Σ (x - mean)². ``"products"``: Σ (x - mean) x'.
    """

    @intrinsic
    def sums(typingctx, rows, columns, vectors, x, other, mean, row, column, out):  # type: ignore[no-untyped-def]
        signature = types.void(rows, columns, vectors, x, other, mean, row, column, out)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, columns, count = args[:3]
            x, other, mean = (builder.inttoptr(p, F32.as_pointer()) for p in args[3:6])
            row, column = args[6:8]
            out = builder.inttoptr(args[8], F32.as_pointer())
            vectors = Vectors(builder, isa.lanes)
            with _loop(builder, "channels", count, []) as (v, _, _):
                c = builder.mul(v, index(isa.lanes))
                centre = vectors.load(mean, c) if form != "values" else None
                with _loop(builder, "rows", rows, [vectors.zero]) as (i, (total,), next_total):
                    first = builder.add(builder.mul(i, row), c)
                    with _loop(builder, "columns", columns, [vectors.zero]) as (j, (partial,), next_partial):
                        at = builder.add(first, builder.mul(j, column))
                        value = vectors.load(x, at)
                        if centre is not None:
                            value = builder.fsub(value, centre)
                            factor = vectors.load(other, at) if form == "products" else value
                            next_partial.append(vectors.multiply_add(value, factor, partial))
                        else:
                            next_partial.append(builder.fadd(partial, value))
                    next_total.append(builder.fadd(total, next_partial[0]))
                vectors.store(next_total[0], out, c)
            return context.get_dummy_value()

        return signature, codegen

    return sums


@cache
def channel_affine(isa: InstructionSet, tangent: bool) -> Callable[..., None]:
    """Return ``y = g ⊙ (x - mean) + (h ⊙ dx + b)`` over the pixels of an image, as a Numba intrinsic.

    It takes ``(rows, columns, vectors, x, mean, gain, dx, dx_gain, constant, row, column, y, y_row, y_column)``, all
    int64 of at least 1, but dx and dx_gain: pixels along both sides; vectors of channels; addresses of x, of the
    channels' means, of g, dx, h and b; the elements between rows and between columns of x and dx; y and those of y.

    Parameters
    ----------
    tangent : with the term h ⊙ dx.
    """

    @intrinsic
    def affine(  # type: ignore[no-untyped-def]
        typingctx,
        rows,
        columns,
        vectors,
        x,
        mean,
        gain,
        dx,
        dx_gain,
        constant,
        row,
        column,
        y,
        y_row,
        y_column,
    ):
        signature = types.void(
            *(rows, columns, vectors, x, mean, gain, dx, dx_gain, constant, row, column, y, y_row, y_column)
        )

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, columns, count = args[:3]
            x, mean, gain, dx, dx_gain, constant = (builder.inttoptr(p, F32.as_pointer()) for p in args[3:9])
            row, column = args[9:11]
            y = builder.inttoptr(args[11], F32.as_pointer())
            y_row, y_column = args[12:14]
            vectors = Vectors(builder, isa.lanes)
            with _loop(builder, "channels", count, []) as (v, _, _):
                c = builder.mul(v, index(isa.lanes))
                centre, g, b = (vectors.load(p, c) for p in (mean, gain, constant))
                h = vectors.load(dx_gain, c) if tangent else None
                with (
                    _loop(builder, "rows", rows, []) as (i, _, _),
                    _loop(builder, "columns", columns, []) as (j, _, _),
                ):
                    at = builder.add(builder.add(builder.mul(i, row), c), builder.mul(j, column))
                    total = vectors.multiply_add(h, vectors.load(dx, at), b) if tangent else b
                    value = builder.fsub(vectors.load(x, at), centre)
                    to = builder.add(builder.add(builder.mul(i, y_row), c), builder.mul(j, y_column))
                    vectors.store(vectors.multiply_add(g, value, total), y, to)
            return context.get_dummy_value()

        return signature, codegen

    return affine
