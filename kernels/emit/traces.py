"""Carries the traces of a diagonal recurrence through a window of a few steps, for one block of its units at a time.

A *trace* is the derivative of a unit's state with respect to one parameter. It follows E_t = D_t E_(t-1) + a_t, where
the factor D_t and the immediate derivative a_t are those of :mod:`fgnumba.kernels.emit.recurrence`. The rows that one
pass hands to the next are as wide as the block, and stay in the first-level cache.
"""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.unit_block import UnitBlock
from fgnumba.kernels.emit.vector import PANEL, InstructionSet, of_vectors
from fgnumba.kernels.emit.vectors import F32, index, loop

STARTS = 4
"""The steps of a window come in groups of so many: a window is filled up with steps that change nothing."""


def _flat(starts: list[tuple[Any, Any]]) -> list[Any]:
    """Return the vectors of several pairs (p, λ), whose parts are lists of vectors, as one list."""
    return [value for start in starts for number in start for part in number for value in part]


def _nested(values: list[Any], parts: int, count: int) -> list[tuple[Any, Any]]:
    """Undo `_flat`: there are `count` vectors in each of the `parts` of a number."""
    rows = [values[i : i + count] for i in range(0, len(values), count)]
    numbers = [rows[i : i + parts] for i in range(0, len(rows), parts)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@of_vectors
def window_products(isa: InstructionSet, width: int, parts: int) -> Callable[..., None]:
    """Return a Numba intrinsic that multiplies the factors of a window, and sums them with the signals.

        p_s = D_s D_(s+1) ... D_(n-1)        λ_s = d_(s-1) + Σ_(t >= s) d_t D_s ... D_t        s = 0 ... n, d_(-1) = 0

    So p_(s+1) carries what came in at step s to the window's end, and λ_(s+1) is what it does to f within the window;
    p_0 and λ_0 are those of what came in before. Each is computed from its own start on, forward in time.

    The intrinsic takes ``(count, factors, signals, set, products, sums)``, all int64: the number of steps n, a multiple
    of `STARTS`; addresses of n rows of factors, of n + 1 rows of signals that begin with d_(-1), a row of zeros; the
    elements from each of the four arrays' real parts to the imaginary ones; addresses of n + 1 rows p and λ, written.

    Of complex numbers, d is ∂f/∂Re c + i ∂f/∂Im c, and λ sums conj(d) times the products.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    width : int
        The number of units of the block.
    parts : int
        1 for real factors, 2 for complex ones.

    Notes
    -----
    Cost: n² / 2 multiplications and as many multiply-adds for each unit (four times as many if complex), with p and λ
    of several starts in registers.
    """

    @intrinsic
    def products(typingctx, count, factors, signals, apart, products, sums):  # type: ignore[no-untyped-def]
        signature = types.void(*(types.int64,) * 6)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            count, factors, signals, apart, products, sums = args
            arrays = [builder.inttoptr(p, F32.as_pointer()) for p in (factors, signals, products, sums)]
            # The real parts of each array, and the imaginary parts.
            factors, signals, products, sums = (
                [builder.gep(p, [builder.mul(index(part), apart)]) for part in range(parts)] for p in arrays
            )
            block = UnitBlock(isa, builder, width, max(1, isa.accumulators // (2 * STARTS * parts)))

            def advance(p: Any, total: Any, t: Any) -> tuple[Any, Any]:
                factor = [block.load(base, t) for base in factors]
                signal = [block.load(base, builder.add(t, index(1))) for base in signals]
                if parts == 1:
                    p = [block.multiply(p[0], factor[0])]
                    return p, [block.fma(signal[0], p[0], total[0])]
                p = block.complex_product(p, factor)
                real = block.fma(signal[1], p[1], block.fma(signal[0], p[0], total[0]))
                imaginary = block.minus_product(signal[1], p[0], block.fma(signal[0], p[1], total[1]))
                return p, [real, imaginary]

            def kept(p: Any, total: Any, row: Any) -> None:
                for part in range(parts):
                    block.store(p[part], products[part], row)
                    block.store(total[part], sums[part], row)

            def begun(row: Any) -> tuple[Any, Any]:
                """Return p and λ of a start before its first step."""
                signal = [block.load(base, row) for base in signals]
                total = [signal[0], block.subtract(block.same(0.0), signal[1])] if parts == 2 else signal
                return [block.same(1.0), block.same(0.0)][:parts], total

            with block.columns() as (number, _, _):
                block.enter(number)
                with loop(builder, "starts", builder.sdiv(count, index(STARTS)), []) as (group, _, _):
                    row = builder.mul(group, index(STARTS))
                    starts = [begun(builder.add(row, index(i))) for i in range(STARTS)]
                    for k in range(STARTS - 1):
                        at = builder.add(row, index(k))
                        starts = [advance(*start, at) if i <= k else start for i, start in enumerate(starts)]
                    rest = builder.sub(builder.sub(count, row), index(STARTS - 1))
                    since = builder.add(row, index(STARTS - 1))
                    with loop(builder, "step", rest, _flat(starts)) as (t, carry, following):
                        at = builder.add(since, t)
                        following += _flat(
                            [advance(*start, at) for start in _nested(carry, parts, block.count)]
                        )
                    for i, start in enumerate(_nested(following, parts, block.count)):
                        kept(*start, builder.add(row, index(i)))
                kept(*begun(count), count)
            return context.get_dummy_value()

        return signature, codegen

    return products


@of_vectors
def carried_rows(isa: InstructionSet, width: int, parts: int) -> Callable[..., None]:
    """Return a Numba intrinsic that takes traces E from a window's start to its end, and adds what they contribute.

        G += λ E        E ← p E

    Complex: G has two parts, Re(λ E) and Re(i λ E), the derivatives with respect to a real and an imaginary number.

    The intrinsic takes ``(rows, traces, apart, gradients, gradient_apart, products, sums, set)``, all int64: the number
    of rows, at least 1; the addresses of E and G, and elements from their real parts to their imaginary ones; the
    addresses of the rows p and λ, and elements to their imaginary parts.

    Notes
    -----
    Cost: reads and writes each row of E and G once, with a multiply-add and a product for each number (four and four
    if complex).
    """

    @intrinsic
    def rows(typingctx, rows, traces, apart, gradients, gradient_apart, products, sums, part):  # type: ignore[no-untyped-def]
        signature = types.void(*(types.int64,) * 8)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            rows, traces, apart, gradients, gradient_apart, products, sums, part = args
            traces, gradients, products, sums = (
                builder.inttoptr(p, F32.as_pointer()) for p in (traces, gradients, products, sums)
            )
            block = UnitBlock(isa, builder, width, 2)

            def of(base: Any, k: int, distance: Any) -> Any:
                return builder.gep(base, [builder.mul(index(k), distance)])

            with block.columns() as (number, _, _):
                block.enter(number)
                p, total = (
                    [block.load(of(base, k, part), index(0)) for k in range(parts)]
                    for base in (products, sums)
                )
                with loop(builder, "row", rows, []) as (row, _, _):
                    e = [block.load(of(traces, k, apart), row) for k in range(parts)]
                    g = [
                        block.load(of(gradients, k, gradient_apart), row, index(PANEL)) for k in range(parts)
                    ]
                    if parts == 1:
                        g, e = [block.fma(total[0], e[0], g[0])], [block.multiply(p[0], e[0])]
                    else:
                        real = block.minus_product(total[1], e[1], block.fma(total[0], e[0], g[0]))
                        imaginary = block.minus_product(
                            total[1], e[0], block.minus_product(total[0], e[1], g[1])
                        )
                        g, e = [real, imaginary], block.complex_product(p, e)
                    for k in range(parts):
                        block.store(g[k], of(gradients, k, gradient_apart), row, index(PANEL))
                        block.store(e[k], of(traces, k, apart), row)
            return context.get_dummy_value()

        return signature, codegen

    return rows


@of_vectors
def one_row(isa: InstructionSet, width: int) -> Callable[..., None]:
    """Return a Numba intrinsic for the row of one symbol: G += b λ, E += a p.

    It takes ``(trace, gradient, a, p, b, total)``, the addresses of rows.
    """

    @intrinsic
    def row(typingctx, trace, gradient, a, p, b, total):  # type: ignore[no-untyped-def]
        signature = types.void(*(types.int64,) * 6)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            trace, gradient, *factors = (builder.inttoptr(p, F32.as_pointer()) for p in args)
            block = UnitBlock(isa, builder, width, 4)
            with block.columns() as (number, _, _):
                block.enter(number)
                a, p, b, total = (block.load(base, index(0)) for base in factors)
                for base, x, y in ((trace, a, p), (gradient, b, total)):
                    block.store(block.fma(x, y, block.load(base, index(0))), base, index(0))
            return context.get_dummy_value()

        return signature, codegen

    return row


@of_vectors
def summed_rows(isa: InstructionSet, width: int, parts: int, rows: int) -> Callable[..., None]:
    """Return a Numba intrinsic for parameters that each step has: G += Σ a λ, E += Σ a p over a window.

    Complex: a, λ, p and E are complex, and G += Σ Re(a λ).

    It takes ``(count, traces, gradients, gradient_apart, immediates, products, sums, set)``, all int64: the number of
    steps; the addresses of the rows E, which lie side by side, and G, and elements from one of those to the next; the
    addresses of a, p and λ, and elements from one set of rows to the next (the parts of p and λ, and every a).

    Parameters
    ----------
    isa : InstructionSet
        The instruction set whose vectors are used.
    width : int
        The number of units of the block.
    parts : int
        1 for real factors, 2 for complex ones.
    rows : int
        The number of parameters, whose sums are independent of each other.
    """

    @intrinsic
    def summed(typingctx, count, traces, gradients, gradient_apart, immediates, products, sums, part):  # type: ignore[no-untyped-def]
        signature = types.void(*(types.int64,) * 8)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            count, traces, gradients, gradient_apart, immediates, products, sums, part = args
            traces, gradients, *sets = (
                builder.inttoptr(p, F32.as_pointer()) for p in (traces, gradients, immediates, products, sums)
            )
            block = UnitBlock(isa, builder, width, 2)

            def of(base: Any, k: int, distance: Any) -> Any:
                return builder.gep(base, [builder.mul(index(k), distance)])

            def places() -> list[Any]:
                """Return where the sums of all parameters are kept: first all E, then all G."""
                own = [of(traces, k, index(width)) for k in range(rows * parts)]
                return own + [of(gradients, r, gradient_apart) for r in range(rows)]

            def advance(
                e: list[Any], g: Any, a: list[Any], p: list[Any], total: list[Any]
            ) -> tuple[Any, Any]:
                if parts == 1:
                    return [block.fma(a[0], p[0], e[0])], block.fma(a[0], total[0], g)
                moved = [
                    [builder.fadd(x, y) for x, y in zip(*both, strict=True)]
                    for both in zip(e, block.complex_product(a, p), strict=True)
                ]
                return moved, block.minus_product(a[1], total[1], block.fma(a[0], total[0], g))

            with block.columns() as (number, _, _):
                block.enter(number)
                n = block.count
                begun = [value for base in places() for value in block.load(base, index(0))]
                with loop(builder, "step", count, begun) as (t, carry, following):
                    now = [carry[i * n : (i + 1) * n] for i in range(rows * (parts + 1))]
                    p, total = ([block.load(of(base, k, part), t) for k in range(parts)] for base in sets[1:])
                    all_e, all_g = [], []
                    for r in range(rows):
                        a = [block.load(of(sets[0], r * parts + k, part), t) for k in range(parts)]
                        e, g = advance(now[r * parts : (r + 1) * parts], now[rows * parts + r], a, p, total)
                        all_e += e
                        all_g.append(g)
                    following += [value for number in (*all_e, *all_g) for value in number]
                for i, base in enumerate(places()):
                    block.store(following[i * n : (i + 1) * n], base, index(0))
            return context.get_dummy_value()

        return signature, codegen

    return summed


@of_vectors
def weighed_rows(isa: InstructionSet, width: int) -> Callable[..., None]:
    """Return a Numba intrinsic that writes the products a x of `count` rows; it takes ``(count, a, x, out)``."""

    @intrinsic
    def rows(typingctx, count, a, x, out):  # type: ignore[no-untyped-def]
        signature = types.void(*(types.int64,) * 4)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            a, x, out = (builder.inttoptr(p, F32.as_pointer()) for p in args[1:])
            block = UnitBlock(isa, builder, width, 2)
            with block.columns() as (number, _, _):
                block.enter(number)
                with loop(builder, "row", args[0], []) as (row, _, _):
                    block.store(block.multiply(block.load(a, row), block.load(x, row)), out, row)
            return context.get_dummy_value()

        return signature, codegen

    return rows
