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

from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.emit.vectors import F32, I64, Vectors, index


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
def channel_sums(isa: InstructionSet) -> Callable[..., None]:
    """Return the sum over the pixels of an image for each channel, as a Numba intrinsic.

    It takes ``(rows, columns, vectors, x, row, column, out)``, all int64 of at least 1: pixels along both sides;
    vectors of channels; the address of x; the elements between its rows and between its columns; the address of the
    sums. A row is summed by itself first: one sum of all pixels would lose more.
    """

    @intrinsic
    def sums(typingctx, rows, columns, vectors, x, row, column, out):  # type: ignore[no-untyped-def]
        signature = types.void(rows, columns, vectors, x, row, column, out)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, columns, count, x, row, column, out = args
            x, out = (builder.inttoptr(p, F32.as_pointer()) for p in (x, out))
            vectors = Vectors(builder, isa.lanes)
            with _loop(builder, "channels", count, []) as (v, _, _):
                c = builder.mul(v, index(isa.lanes))
                with _loop(builder, "rows", rows, [vectors.zero]) as (i, (total,), next_total):
                    first = builder.add(builder.mul(i, row), c)
                    with _loop(builder, "columns", columns, [vectors.zero]) as (j, (partial,), next_partial):
                        at = builder.add(first, builder.mul(j, column))
                        next_partial.append(builder.fadd(partial, vectors.load(x, at)))
                    next_total.append(builder.fadd(total, next_partial[0]))
                vectors.store(next_total[0], out, c)
            return context.get_dummy_value()

        return signature, codegen

    return sums


FACTOR, HIGH, LOW, OWN_FACTOR, OWN_HIGH, OWN_LOW, GAIN, OWN_GAIN, CONSTANT, FIRST, SECOND = range(11)
"""Vectors of a table of what belongs to channels, for the passes below: f, and the mean of f x as two float32; the same
of x'; gains of both, and a constant; sums."""

TABLE = SECOND + 1


class _Table:
    """Vectors of a table at an address, `stride` bytes apart, of the channels from `c` on."""

    def __init__(self, vectors: Vectors, address: Any, stride: Any, c: Any) -> None:
        self._vectors, self._address, self._stride, self._c = vectors, address, stride, c

    def _at(self, which: int) -> Any:
        builder = self._vectors.builder
        address = builder.add(self._address, builder.mul(self._stride, index(which)))
        return builder.inttoptr(address, F32.as_pointer())

    def load(self, *which: int) -> list[Any]:
        return [self._vectors.load(self._at(one), self._c) for one in which]

    def store(self, value: Any, which: int) -> None:
        self._vectors.store(value, self._at(which), self._c)


def _centred(vectors: Vectors, x: Any, factor: Any, high: Any, low: Any) -> Any:
    """Append (f x - high) - low, in this order: see ``moments``."""
    builder = vectors.builder
    return builder.fsub(vectors.multiply_add(x, factor, builder.fneg(high)), low)


@cache
def channel_moments(isa: InstructionSet, tangent: bool) -> Callable[..., None]:
    """Return sums over the pixels of an image of d = (f x - high) - low for each channel, as a Numba intrinsic.

    It takes ``(rows, columns, vectors, x, other, row, column, table, stride)``, all int64 of at least 1, but `other`:
    pixels along both sides; vectors of channels; the addresses of x and of x'; the elements between rows and between
    columns of both; the address of a table (``FACTOR`` and so on) and the bytes between its vectors. A row is summed by
    itself first: one sum of all pixels would lose more.

    Parameters
    ----------
    tangent : the sums are Σ e and Σ d e of e = (f' x' - high') - low', else Σ d and Σ d².
    """

    @intrinsic
    def moments(typingctx, rows, columns, vectors, x, other, row, column, table, stride):  # type: ignore[no-untyped-def]
        signature = types.void(rows, columns, vectors, x, other, row, column, table, stride)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, columns, count, x, other, row, column, table, stride = args
            x, other = (builder.inttoptr(p, F32.as_pointer()) for p in (x, other))
            vectors = Vectors(builder, isa.lanes)
            zeros = [vectors.zero] * 2
            with _loop(builder, "channels", count, []) as (v, _, _):
                c = builder.mul(v, index(isa.lanes))
                by_channel = _Table(vectors, table, stride, c)
                means = by_channel.load(FACTOR, HIGH, LOW)
                own = by_channel.load(OWN_FACTOR, OWN_HIGH, OWN_LOW) if tangent else None
                with _loop(builder, "rows", rows, zeros) as (i, totals, next_totals):
                    start = builder.add(builder.mul(i, row), c)
                    with _loop(builder, "columns", columns, zeros) as (j, partials, next_partials):
                        at = builder.add(start, builder.mul(j, column))
                        d = _centred(vectors, vectors.load(x, at), *means)
                        e = d if own is None else _centred(vectors, vectors.load(other, at), *own)
                        next_partials += [
                            builder.fadd(partials[0], e),
                            vectors.multiply_add(d, e, partials[1]),
                        ]
                    next_totals += [
                        builder.fadd(total, partial)
                        for total, partial in zip(totals, next_partials, strict=True)
                    ]
                for total, which in zip(next_totals, (FIRST, SECOND), strict=True):
                    by_channel.store(total, which)
            return context.get_dummy_value()

        return signature, codegen

    return moments


@cache
def channel_affine(isa: InstructionSet, tangent: bool) -> Callable[..., None]:
    """Return ``y = g ⊙ d + (h ⊙ e + b)`` over the pixels of an image, as a Numba intrinsic; d and e are those of
    :func:`channel_moments`.

    It takes ``(rows, columns, vectors, x, other, row, column, y, y_row, y_column, table, stride)``, all int64 of at
    least 1, but `other`: what that takes, and y and the elements between its rows and between its columns.

    Parameters
    ----------
    tangent : with the term h ⊙ e.
    """

    @intrinsic
    def affine(  # type: ignore[no-untyped-def]
        typingctx, rows, columns, vectors, x, other, row, column, y, y_row, y_column, table, stride
    ):
        signature = types.void(
            *(rows, columns, vectors, x, other, row, column, y, y_row, y_column, table, stride)
        )

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, columns, count, x, other, row, column, y, y_row, y_column, table, stride = args
            x, other, y = (builder.inttoptr(p, F32.as_pointer()) for p in (x, other, y))
            vectors = Vectors(builder, isa.lanes)
            with _loop(builder, "channels", count, []) as (v, _, _):
                c = builder.mul(v, index(isa.lanes))
                by_channel = _Table(vectors, table, stride, c)
                means, (gain, constant) = by_channel.load(FACTOR, HIGH, LOW), by_channel.load(GAIN, CONSTANT)
                if tangent:
                    own, (own_gain,) = (
                        by_channel.load(OWN_FACTOR, OWN_HIGH, OWN_LOW),
                        by_channel.load(OWN_GAIN),
                    )
                with (
                    _loop(builder, "rows", rows, []) as (i, _, _),
                    _loop(builder, "columns", columns, []) as (j, _, _),
                ):
                    at = builder.add(builder.add(builder.mul(i, row), c), builder.mul(j, column))
                    total = constant
                    if tangent:
                        e = _centred(vectors, vectors.load(other, at), *own)
                        total = vectors.multiply_add(own_gain, e, total)
                    d = _centred(vectors, vectors.load(x, at), *means)
                    to = builder.add(builder.add(builder.mul(i, y_row), c), builder.mul(j, y_column))
                    vectors.store(vectors.multiply_add(gain, d, total), y, to)
            return context.get_dummy_value()

        return signature, codegen

    return affine
