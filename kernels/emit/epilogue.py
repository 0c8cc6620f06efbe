"""The end of a tile's tangent, which a loop over this many arrays would not vectorise for fear that they overlap."""

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.emit.vectors import F32, I64, Vectors, index


@cache
def tangent_rows(isa: InstructionSet, products: bool, dots: bool) -> Callable[..., None]:
    """Return ``dy = a' ⊙ (dz + s wᵀ + c)`` over the rows of a tile, as a Numba intrinsic.

    The intrinsic takes ``(rows, columns, stride, dz, slopes, dots, dot_stride, right, shift, dy, ld)``, all int64:
    `columns`, a multiple of the lanes, of `rows` rows; the elements between rows of dz and of the slopes a', from one
    of s (rows,) to the next, and between rows of dy; the addresses of dz, a', s, w and c (columns,), and dy.

    Parameters
    ----------
    products, dots : with the term dz, with the term s wᵀ.

    Cost: reads dz and a' once and writes dy once; w and c stay in registers along a column.
    """

    @intrinsic
    def combine(  # type: ignore[no-untyped-def]
        typingctx, rows, columns, stride, dz, slopes, s, s_stride, right, shift, dy, ld
    ):
        signature = types.void(rows, columns, stride, dz, slopes, s, s_stride, right, shift, dy, ld)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, columns, stride = args[:3]
            dz, slopes, s = (builder.inttoptr(p, F32.as_pointer()) for p in args[3:6])
            s_stride, ld = args[6], args[10]
            right, shift, dy = (builder.inttoptr(p, F32.as_pointer()) for p in args[7:10])
            vectors = Vectors(builder, isa.lanes)
            entry = builder.block
            outer, inner, following, done = (
                builder.append_basic_block(name) for name in ("column", "row", "following", "done")
            )
            some = builder.and_(
                builder.icmp_signed(">", rows, index(0)), builder.icmp_signed(">", columns, index(0))
            )
            builder.cbranch(some, outer, done)

            builder.position_at_end(outer)
            n = builder.phi(I64)
            n.add_incoming(index(0), entry)
            c = vectors.load(shift, n)
            w = vectors.load(right, n) if dots else None
            builder.branch(inner)

            builder.position_at_end(inner)
            i = builder.phi(I64)
            i.add_incoming(index(0), outer)
            at = builder.add(builder.mul(i, stride), n)
            total = c
            if dots:
                element = vectors.splat(builder.load(builder.gep(s, [builder.mul(i, s_stride)])))
                total = vectors.multiply_add(element, w, total)
            if products:
                total = builder.fadd(vectors.load(dz, at), total)
            value = builder.fmul(vectors.load(slopes, at), total)
            vectors.store(value, dy, builder.add(builder.mul(i, ld), n))
            i_next = builder.add(i, index(1))
            i.add_incoming(i_next, inner)
            builder.cbranch(builder.icmp_signed("<", i_next, rows), inner, following)

            builder.position_at_end(following)
            n_next = builder.add(n, index(isa.lanes))
            n.add_incoming(n_next, following)
            builder.cbranch(builder.icmp_signed("<", n_next, columns), outer, done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return signature, codegen

    return combine
