"""Applies a small matrix to both sides of grids of vectors, and transposes square blocks.

The Winograd convolution uses both.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vector import InstructionSet, of_vectors
from fgnumba.kernels.emit.vectors import F32, I32, I64, Vectors, index


@of_vectors
def separable(isa: InstructionSet, matrix: tuple[tuple[float, ...], ...]) -> Callable[..., None]:
    """Return a Numba intrinsic that computes Y = M X Mᵀ, where X is a grid of vectors and M a small constant matrix.

    The intrinsic takes ``(count, x_step, y_step, length, x, x_row, x_column, y, y_row, y_column)``, all int64:

    - count: number of grids;
    - x_step, y_step: elements from one grid to the next, in X and in Y;
    - length: elements in each place of a grid, a multiple of the lanes;
    - x, x_row, x_column: address of X, and elements from one of its rows to the next, and from one column to the next;
    - y, y_row, y_column: the same for Y.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    matrix : tuple of tuples of float
        M. The entries of a row are 0, +m or -m for one number m, so that a row costs additions and, if m is not 1, one
        multiplication.

    Notes
    -----
    Cost: reads X once and writes Y once, with additions between.
    """
    size = len(matrix[0])

    @intrinsic
    def transform(  # type: ignore[no-untyped-def]
        typingctx, count, x_step, y_step, length, x, x_row, x_column, y, y_row, y_column
    ):
        signature = types.void(count, x_step, y_step, length, x, x_row, x_column, y, y_row, y_column)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            count, x_step, y_step, length, x, x_row, x_column, y, y_row, y_column = args
            x, y = (builder.inttoptr(p, F32.as_pointer()) for p in (x, y))
            vectors = Vectors(builder, isa.lanes)
            entry = builder.block
            outer, inner, following, done = (
                builder.append_basic_block(name) for name in ("grid", "vector", "following", "done")
            )
            x_at = [
                [
                    builder.add(builder.mul(x_row, index(i)), builder.mul(x_column, index(j)))
                    for j in range(size)
                ]
                for i in range(size)
            ]
            y_at = [
                [
                    builder.add(builder.mul(y_row, index(i)), builder.mul(y_column, index(j)))
                    for j in range(len(matrix))
                ]
                for i in range(len(matrix))
            ]
            builder.cbranch(builder.icmp_signed(">", count, index(0)), outer, done)

            builder.position_at_end(outer)
            n = builder.phi(I64)
            n.add_incoming(index(0), entry)
            x_grid, y_grid = builder.mul(n, x_step), builder.mul(n, y_step)
            builder.branch(inner)

            builder.position_at_end(inner)
            c = builder.phi(I64)
            c.add_incoming(index(0), outer)
            x_first, y_first = builder.add(x_grid, c), builder.add(y_grid, c)
            grid = [[vectors.load(x, builder.add(x_first, at)) for at in row] for row in x_at]
            columns = [_apply(builder, vectors, matrix, list(column)) for column in zip(*grid, strict=True)]
            rows = [_apply(builder, vectors, matrix, list(row)) for row in zip(*columns, strict=True)]
            for values, offsets in zip(rows, y_at, strict=True):
                for value, at in zip(values, offsets, strict=True):
                    vectors.store(value, y, builder.add(y_first, at))
            c_next = builder.add(c, index(isa.lanes))
            c.add_incoming(c_next, inner)
            builder.cbranch(builder.icmp_signed("<", c_next, length), inner, following)

            builder.position_at_end(following)
            n_next = builder.add(n, index(1))
            n.add_incoming(n_next, following)
            builder.cbranch(builder.icmp_signed("<", n_next, count), outer, done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return signature, codegen

    return transform


def _apply(builder: Any, vectors: Vectors, matrix: Sequence[Sequence[float]], values: list[Any]) -> list[Any]:
    """Return M times the vector `values`."""
    results = []
    for row in matrix:
        terms = [(value, number) for value, number in zip(values, row, strict=True) if number]
        # A positive term comes first, so that no negation is needed.
        terms.sort(key=lambda term: term[1] < 0)
        total, scale = terms[0]
        for value, number in terms[1:]:
            total = builder.fadd(total, value) if number > 0 else builder.fsub(total, value)
        if scale != 1:
            total = builder.fmul(total, ir.Constant(vectors.type, [scale] * vectors.lanes))
        results.append(total)
    return results


@of_vectors
def transpose_block(isa: InstructionSet) -> Callable[..., None]:
    """Return a Numba intrinsic that transposes a square block of ``isa.lanes`` rows and columns.

    The intrinsic takes ``(x, x_ld, y, y_ld)``, all int64: the addresses of x and y, each followed by the elements
    from one row to the next.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.

    Notes
    -----
    Cost: reads and writes the block once, with log2(lanes) shuffles for each row. The shuffles exchange blocks of 1, 2,
    4, … elements.
    """
    lanes = isa.lanes

    @intrinsic
    def transpose(typingctx, x, x_ld, y, y_ld):  # type: ignore[no-untyped-def]
        signature = types.void(x, x_ld, y, y_ld)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            x, x_ld, y, y_ld = args
            x, y = (builder.inttoptr(p, F32.as_pointer()) for p in (x, y))
            vectors = Vectors(builder, lanes)
            rows = [vectors.load(x, builder.mul(x_ld, index(i))) for i in range(lanes)]
            size = 1
            while size < lanes:
                # Lane numbers of both rows side by side; those of the second row begin at `lanes`.
                first = [j + lanes - size if j & size else j for j in range(lanes)]
                second = [j + lanes if j & size else j + size for j in range(lanes)]
                masks = [ir.Constant(ir.VectorType(I32, lanes), order) for order in (first, second)]
                for i in range(lanes):
                    if not i & size:
                        pair = rows[i], rows[i + size]
                        rows[i], rows[i + size] = (builder.shuffle_vector(*pair, mask) for mask in masks)
                size *= 2
            for i, row in enumerate(rows):
                vectors.store(row, y, builder.mul(y_ld, index(i)))
            return context.get_dummy_value()

        return signature, codegen

    return transpose
