"""The register tile of attention: a few rows times a panel, with distances that are known when it is compiled.

It differs from ``register_tile`` in what attention needs: float64, rows that are columns of memory, operands at any
distance, and sums that are multiplied row by row before they go on. Its operands are copies in scratch memory, whose
distances do not depend on the size of a head.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vector import InstructionSet, of_vectors
from fgnumba.kernels.emit.vectors import F32, F64, I64, Vectors, index, never_unroll


@of_vectors
def panel_product(
    isa: InstructionSet,
    wide: bool,
    rows: int,
    width: int,
    *,
    a_row: int,
    a_term: int,
    w_term: int,
    out_row: int,
) -> Callable[..., None]:
    """Return a Numba intrinsic that computes ``out = scale * out + a W + c V`` for `rows` rows and `width` columns.

    The intrinsic takes ``(length, a, w, c, v, scales, out)``, all int64:

    - length: number of terms K, at least 0;
    - a, w: addresses of element 0 of row 0 of a, and of row 0 of W;
    - c, v: the same of c and V; if v is 0, there is no such product;
    - scales: address of `rows` factors of what `out` holds; 0: the sums start from zero;
    - out: address of the result.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    wide : bool
        Whether all numbers are float64. Otherwise they are float32.
    rows : int
        Rows of a and of out.
    width : int
        Columns of W and of out, a multiple of the lanes.
    a_row, a_term : int
        Elements of a, and of c, from one row to the next, and from one term to the next.
    w_term, out_row : int
        Elements from one row of W, and of V, to the next, and from one row of out to the next.

    Notes
    -----
    Cost: K rows * width multiply-adds for each product, with all sums in registers. The sums run over the terms of
    a W, then those of c V, in plain order, the same for every shape of the tile.
    """
    element, itemsize = (F64, 8) if wide else (F32, 4)
    lanes = isa.lanes * 4 // itemsize
    columns = range(0, width, lanes)

    @intrinsic
    def tile(typingctx, length, a, w, c, v, scales, out):  # type: ignore[no-untyped-def]
        signature = types.void(length, a, w, c, v, scales, out)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            length = args[0]
            a, w, c, v, scales, out = (builder.inttoptr(p, element.as_pointer()) for p in args[1:])
            vectors = Vectors(builder, lanes, element)
            out_at = [index(m * out_row + n) for m in range(rows) for n in columns]
            some = builder.icmp_signed(">", length, index(0))

            def products(a: Any, w: Any, condition: Any, sums: list[Any]) -> list[Any]:
                before = builder.block
                body, after = builder.append_basic_block("term"), builder.append_basic_block("summed")
                builder.cbranch(condition, body, after)
                builder.position_at_end(body)
                k = builder.phi(I64)
                k.add_incoming(index(0), before)
                carried = [builder.phi(vectors.type) for _ in sums]
                for phi, value in zip(carried, sums, strict=True):
                    phi.add_incoming(value, before)
                w_at, a_at = builder.mul(k, index(w_term)), builder.mul(k, index(a_term))
                panel = [vectors.load(w, builder.add(w_at, index(n))) for n in columns]
                totals = []
                for m in range(rows):
                    one = builder.load(builder.gep(a, [builder.add(a_at, index(m * a_row))]))
                    factor = vectors.splat(one)
                    for n, column in enumerate(panel):
                        totals.append(vectors.multiply_add(factor, column, carried[m * len(panel) + n]))
                following = builder.add(k, index(1))
                k.add_incoming(following, body)
                for phi, value in zip(carried, totals, strict=True):
                    phi.add_incoming(value, body)
                again = builder.cbranch(builder.icmp_signed("<", following, length), body, after)
                never_unroll(builder.module, again)
                builder.position_at_end(after)
                return _joined(builder, vectors.type, [(before, sums), (body, totals)])

            def resumed() -> list[Any]:
                factors = [vectors.splat(builder.load(builder.gep(scales, [index(m)]))) for m in range(rows)]
                held = [vectors.load(out, at) for at in out_at]
                return [builder.fmul(factors[n // len(columns)], value) for n, value in enumerate(held)]

            entry = builder.block
            resume, begin = builder.append_basic_block("resume"), builder.append_basic_block("begin")
            builder.cbranch(builder.icmp_signed("==", args[5], index(0)), begin, resume)
            builder.position_at_end(resume)
            before = resumed()
            builder.branch(begin)
            builder.position_at_end(begin)
            zeros = [vectors.zero] * len(out_at)
            sums = _joined(builder, vectors.type, [(entry, zeros), (resume, before)])
            sums = products(a, w, some, sums)
            both = builder.and_(some, builder.icmp_signed("!=", args[4], index(0)))
            sums = products(c, v, both, sums)
            for value, at in zip(sums, out_at, strict=True):
                vectors.store(value, out, at)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def _joined(builder: Any, kind: ir.Type, branches: list[tuple[Any, list[Any]]]) -> list[Any]:
    """Return phis of the values that come from each block of `branches`."""
    phis = [builder.phi(kind) for _ in branches[0][1]]
    for block, values in branches:
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(value, block)
    return phis
