"""Carries first derivatives and one summed second derivative through an activation, in one pass over a panel's rows.

A loop that Numba compiles over this many arrays is not vectorised, because the arrays might overlap.
"""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.vector import PANEL, InstructionSet, of_vectors
from fgnumba.kernels.emit.vectors import F32, I64, Vectors, index

VALUE, SLOPE, BEND, BEND_SLOPE, SQUARES = range(5)
"""Rows of a *jet*, (5, PANEL) float32: a(z), a'(z), a''(z), a'''(z), and Σ w_i z_i²."""


class _Rows:
    """Loads and stores rows of PANEL float32, as vectors of one width."""

    def __init__(self, builder: Any, lanes: int) -> None:
        self.builder, self.vectors = builder, Vectors(builder, lanes)
        self.columns = range(0, PANEL, lanes)

    def at(self, address: Any) -> Any:
        return self.builder.inttoptr(address, F32.as_pointer())

    def load(self, base: Any, offset: Any = None) -> list[Any]:
        offset = index(0) if offset is None else offset
        return [self.vectors.load(base, self.builder.add(offset, index(n))) for n in self.columns]

    def store(self, values: list[Any], base: Any, offset: Any = None) -> None:
        offset = index(0) if offset is None else offset
        for value, n in zip(values, self.columns, strict=True):
            self.vectors.store(value, base, self.builder.add(offset, index(n)))

    def jet(self, base: Any, row: int) -> list[Any]:
        return self.load(base, index(row * PANEL))

    def times(self, a: list[Any], b: list[Any]) -> list[Any]:
        return [self.builder.fmul(x, y) for x, y in zip(a, b, strict=True)]

    def plus_product(self, a: list[Any], b: list[Any], c: list[Any]) -> list[Any]:
        """Return a b + c."""
        return [self.vectors.multiply_add(x, y, z) for x, y, z in zip(a, b, c, strict=True)]

    def sums_over(self, count: Any, body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Return vectors that begin as zeros and that `body`, given i and the vectors, replaces for i < `count`."""
        builder = self.builder
        entry = builder.block
        loop, done = builder.append_basic_block("row"), builder.append_basic_block("rows_done")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(I64)
        i.add_incoming(index(0), entry)
        sums = [builder.phi(self.vectors.type) for _ in self.columns]
        totals = body(i, list(sums))
        following = builder.add(i, index(1))
        i.add_incoming(following, builder.block)
        for total, value in zip(sums, totals, strict=True):
            total.add_incoming(self.vectors.zero, entry)
            total.add_incoming(value, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
        builder.position_at_end(done)
        return totals


@of_vectors
def collapse(isa: InstructionSet) -> Callable[..., None]:
    """Return a Numba intrinsic that carries one point's rows of a panel through an activation.

        y = a,   y_i = a' z_i,   y_L = a' z_L + a'' S,   S = Σ_i w_i z_i²

    It takes ``(count, first, second, jet, weights, y, ld)``, all int64: the number of first derivatives, at least 1;
    addresses of their rows z_i, PANEL apart, of the row z_L, of the jet, and of the weights w (count,); and the address
    of y, whose rows are `ld` apart: y, the y_i, then y_L. S is written to the jet.

    Cost: reads each row once and writes it once; five multiply-adds an element.
    """

    @intrinsic
    def collapsed(typingctx, count, first, second, jet, weights, y, ld):  # type: ignore[no-untyped-def]
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            count, ld = args[0], args[6]
            rows = _Rows(builder, isa.lanes)
            first, second, jet, weights, y = (rows.at(address) for address in args[1:6])
            slope, bend = rows.jet(jet, SLOPE), rows.jet(jet, BEND)
            rows.store(rows.jet(jet, VALUE), y)

            def row(i: Any, squares: list[Any]) -> list[Any]:
                z = rows.load(first, builder.mul(i, index(PANEL)))
                rows.store(rows.times(slope, z), y, builder.mul(builder.add(i, index(1)), ld))
                weight = [rows.vectors.splat(builder.load(builder.gep(weights, [i])))] * len(z)
                return rows.plus_product(rows.times(weight, z), z, squares)

            squares = rows.sums_over(count, row)
            rows.store(squares, jet, index(SQUARES * PANEL))
            last = rows.plus_product(slope, rows.load(second), rows.times(bend, squares))
            rows.store(last, y, builder.mul(builder.add(count, index(1)), ld))
            return context.get_dummy_value()

        return types.void(count, first, second, jet, weights, y, ld), codegen

    return collapsed


@of_vectors
def collapse_tangent(isa: InstructionSet) -> Callable[..., None]:
    """Return a Numba intrinsic that differentiates :func:`collapse` once more, along a direction of the parameters.

        dy   = a' dz
        dy_i = a' dz_i + a'' dz z_i
        dy_L = a' dz_L + a'' (dz z_L + 2 Σ_i w_i z_i dz_i) + a''' dz S

    It takes ``(count, first, second, jet, weights, moved, moved_first, moved_second, dy, ld)``, all int64: what
    :func:`collapse` takes, with the jet that it completed; addresses of the row dz, of the rows dz_i and of dz_L; and
    address of dy, whose rows are `ld` apart.
    """

    @intrinsic
    def collapsed(  # type: ignore[no-untyped-def]
        typingctx, count, first, second, jet, weights, moved, moved_first, moved_second, dy, ld
    ):
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            count, ld = args[0], args[9]
            rows = _Rows(builder, isa.lanes)
            first, second, jet, weights, *moves, dy = (rows.at(address) for address in args[1:9])
            slope, bend = rows.jet(jet, SLOPE), rows.jet(jet, BEND)
            dz = rows.load(moves[0])
            turn = rows.times(bend, dz)
            rows.store(rows.times(slope, dz), dy)

            def row(i: Any, products: list[Any]) -> list[Any]:
                at = builder.mul(i, index(PANEL))
                z, moved = rows.load(first, at), rows.load(moves[1], at)
                value = rows.plus_product(turn, z, rows.times(slope, moved))
                rows.store(value, dy, builder.mul(builder.add(i, index(1)), ld))
                weight = [rows.vectors.splat(builder.load(builder.gep(weights, [i])))] * len(z)
                return rows.plus_product(rows.times(weight, z), moved, products)

            products = rows.sums_over(count, row)
            twice = [builder.fadd(product, product) for product in products]
            last = rows.plus_product(bend, twice, rows.times(slope, rows.load(moves[2])))
            last = rows.plus_product(turn, rows.load(second), last)
            again = rows.times(rows.jet(jet, BEND_SLOPE), dz)
            last = rows.plus_product(again, rows.jet(jet, SQUARES), last)
            rows.store(last, dy, builder.mul(builder.add(count, index(1)), ld))
            return context.get_dummy_value()

        signature = types.void(count, first, second, jet, weights, moved, moved_first, moved_second, dy, ld)
        return signature, codegen

    return collapsed
