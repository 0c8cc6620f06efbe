"""Computes the tangent of a tile from its product, slopes, rank-1 term and bias tangent, in one vectorised pass.

A loop that Numba compiles over this many arrays is not vectorised, because the arrays might overlap.
"""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vector import InstructionSet, of_vectors
from fgnumba.kernels.emit.vectors import F32, I64, Vectors, index


@of_vectors
def tangent_rows(isa: InstructionSet, products: bool, dots: bool) -> Callable[..., None]:
    """Return a Numba intrinsic that computes ``dy = a' ⊙ (dz + s wᵀ + c)`` for the rows of a tile.

    The intrinsic takes ``(rows, columns, stride, dz, slopes, dots, dot_stride, right, shift, dy, ld)``, all int64:

    - rows, columns: size of the tile; `columns` is a multiple of the lanes;
    - stride: elements from one row of dz, and of the slopes, to the next;
    - dz, slopes: addresses of dz and of the slopes a';
    - dots, dot_stride: address of s (rows,), and elements from one entry of s to the next;
    - right, shift: addresses of w and c (columns,);
    - dy, ld: address of dy, and elements from one row of it to the next.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    products : bool
        Whether the term dz is there.
    dots : bool
        Whether the term s wᵀ is there.

    Notes
    -----
    Cost: reads dz and a' once and writes dy once; w and c stay in registers while a vector of columns is computed for
    all rows.
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
