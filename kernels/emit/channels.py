"""Passes over an image that compute with each channel separately, one vector of channels at a time.

The outer loop runs over vectors of channels, and the inner loops run over all pixels. The numbers that belong to a
channel (its mean, for example) therefore stay in a register. A loop over pixels with all channels inside would load
them again for every pixel, and would check at every pixel whether its arrays overlap.
"""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vector import InstructionSet, of_vectors
from fgnumba.kernels.emit.vectors import F32, Vectors, index, loop


@of_vectors
def channel_sums(isa: InstructionSet) -> Callable[..., None]:
    """Return a Numba intrinsic that sums each channel over the pixels of an image.

    The intrinsic takes ``(rows, columns, vectors, x, row, column, out)``, all int64 of at least 1:

    - rows, columns: height and width of the image in pixels;
    - vectors: number of vectors of channels;
    - x: address of the image;
    - row, column: elements from one row of x to the next, and from one column to the next;
    - out: address of the sums.

    The pixels of a row are summed first, then the sums of the rows, because a single running sum over all pixels would
    lose more precision.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    """

    @intrinsic
    def sums(typingctx, rows, columns, vectors, x, row, column, out):  # type: ignore[no-untyped-def]
        signature = types.void(rows, columns, vectors, x, row, column, out)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, columns, count, x, row, column, out = args
            x, out = (builder.inttoptr(p, F32.as_pointer()) for p in (x, out))
            vectors = Vectors(builder, isa.lanes)
            with loop(builder, "channels", count, []) as (v, _, _):
                c = builder.mul(v, index(isa.lanes))
                with loop(builder, "rows", rows, [vectors.zero]) as (i, (total,), next_total):
                    first = builder.add(builder.mul(i, row), c)
                    with loop(builder, "columns", columns, [vectors.zero]) as (j, (partial,), next_partial):
                        at = builder.add(first, builder.mul(j, column))
                        next_partial.append(builder.fadd(partial, vectors.load(x, at)))
                    next_total.append(builder.fadd(total, next_partial[0]))
                vectors.store(next_total[0], out, c)
            return context.get_dummy_value()

        return signature, codegen

    return sums


FACTOR, HIGH, LOW, OWN_FACTOR, OWN_HIGH, OWN_LOW, GAIN, OWN_GAIN, CONSTANT, FIRST, SECOND = range(11)
"""Indices of the vectors in a table of per-channel numbers, which the passes below read and write.

FACTOR is f; HIGH and LOW are the mean of f x, split into two float32; OWN_FACTOR, OWN_HIGH and OWN_LOW are the same for
the tangent x'. GAIN and OWN_GAIN scale d and e, and CONSTANT is added. FIRST and SECOND receive sums.
"""

TABLE = SECOND + 1
"""Number of vectors in the table."""


class _Table:
    """A table of vectors at an address, `stride` bytes apart, seen from channel `c` on."""

    def __init__(self, vectors: Vectors, address: Any, stride: Any, c: Any) -> None:
        self._vectors, self._address, self._stride, self._c = vectors, address, stride, c

    def _at(self, which: int) -> Any:
        builder = self._vectors.builder
        address = builder.add(self._address, builder.mul(self._stride, index(which)))
        return builder.inttoptr(address, F32.as_pointer())

    def load(self, *which: int) -> list[Any]:
        return [self._vectors.load(self._at(vector), self._c) for vector in which]

    def store(self, value: Any, which: int) -> None:
        self._vectors.store(value, self._at(which), self._c)


def _centred(vectors: Vectors, x: Any, factor: Any, high: Any, low: Any) -> Any:
    """Append (f x - high) - low, subtracted in this order; ``moments`` says why."""
    builder = vectors.builder
    return builder.fsub(vectors.multiply_add(x, factor, builder.fneg(high)), low)


@of_vectors
def channel_moments(isa: InstructionSet, tangent: bool) -> Callable[..., None]:
    """Return a Numba intrinsic that sums d = (f x - high) - low over the pixels of an image, for each channel.

    The intrinsic takes ``(rows, columns, vectors, x, other, row, column, table, stride)``, all int64, and all but
    `other` at least 1:

    - rows, columns: height and width of the image in pixels;
    - vectors: number of vectors of channels;
    - x, other: addresses of the primal x and the tangent x';
    - row, column: elements from one row to the next, and from one column to the next, of both;
    - table, stride: address of the table (``FACTOR`` and so on), and bytes from one of its vectors to the next.

    The pixels of a row are summed first, then the sums of the rows, because a single running sum over all pixels would
    lose more precision. FIRST and SECOND of the table receive the two sums.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    tangent : bool
        True: the sums are Σ e and Σ d e, where e = (f' x' - high') - low'. False: they are Σ d and Σ d².
    """

    @intrinsic
    def moments(typingctx, rows, columns, vectors, x, other, row, column, table, stride):  # type: ignore[no-untyped-def]
        signature = types.void(rows, columns, vectors, x, other, row, column, table, stride)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, columns, count, x, other, row, column, table, stride = args
            x, other = (builder.inttoptr(p, F32.as_pointer()) for p in (x, other))
            vectors = Vectors(builder, isa.lanes)
            zeros = [vectors.zero] * 2
            with loop(builder, "channels", count, []) as (v, _, _):
                c = builder.mul(v, index(isa.lanes))
                by_channel = _Table(vectors, table, stride, c)
                means = by_channel.load(FACTOR, HIGH, LOW)
                own = by_channel.load(OWN_FACTOR, OWN_HIGH, OWN_LOW) if tangent else None
                with loop(builder, "rows", rows, zeros) as (i, totals, next_totals):
                    start = builder.add(builder.mul(i, row), c)
                    with loop(builder, "columns", columns, zeros) as (j, partials, next_partials):
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


@of_vectors
def channel_affine(isa: InstructionSet, tangent: bool) -> Callable[..., None]:
    """Return a Numba intrinsic that computes ``y = g ⊙ d + (h ⊙ e + b)`` for all pixels of an image.

    d and e are those of :func:`channel_moments`; g, h and b are GAIN, OWN_GAIN and CONSTANT of the table. The intrinsic
    takes ``(rows, columns, vectors, x, other, row, column, y, y_row, y_column, table, stride)``, all int64, and all but
    `other` at least 1. They mean what they mean there; `y` is the address of the result, `y_row` and `y_column` are the
    elements from one of its rows to the next, and from one of its columns to the next.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    tangent : bool
        Whether the term h ⊙ e is added.
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
            with loop(builder, "channels", count, []) as (v, _, _):
                c = builder.mul(v, index(isa.lanes))
                by_channel = _Table(vectors, table, stride, c)
                means, (gain, constant) = by_channel.load(FACTOR, HIGH, LOW), by_channel.load(GAIN, CONSTANT)
                if tangent:
                    own, (own_gain,) = (
                        by_channel.load(OWN_FACTOR, OWN_HIGH, OWN_LOW),
                        by_channel.load(OWN_GAIN),
                    )
                with (
                    loop(builder, "rows", rows, []) as (i, _, _),
                    loop(builder, "columns", columns, []) as (j, _, _),
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
