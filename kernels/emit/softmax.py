"""Rows of attention's scores: the exponentials of a block of keys beside the running maximum, and slopes.

Vectors have ``LANES`` elements with every instruction set, so that sums over keys are the same bits with each; LLVM
splits them where registers are narrower.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from math import factorial, inf
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fgnumba.kernels.emit.rows import LANES, across
from fgnumba.kernels.emit.vectors import F32, F64, I32, I64, Vectors, index, loop

_TERMS = 13
"""Terms of the series of e**r in float64: with |r| < 0.35, the next is below 2e-16."""


class _Scores:
    """Appends instructions on vectors of scores.

    Parameters
    ----------
    builder : ir.IRBuilder
        Where instructions are appended.
    wide : bool
        Whether the scores are float64.
    series : tuple of float
        Coefficients of (e**r - 1 - r) / r**2 for |r| < 0.35, in float32. Those of float64 are 1 / n!.
    """

    def __init__(self, builder: Any, wide: bool, series: Sequence[float]) -> None:
        element, self.integer, self.itemsize = (F64, I64, 8) if wide else (F32, I32, 4)
        self.builder, self.element = builder, element
        self.vectors = Vectors(builder, LANES[self.itemsize], element)
        self.lanes = self.vectors.lanes
        self.words = ir.VectorType(self.integer, self.lanes)
        self.wide = wide
        self.series = [1 / factorial(n) for n in range(2, _TERMS)] if wide else list(series)

    def same(self, value: float) -> Any:
        return ir.Constant(self.vectors.type, [value] * self.lanes)

    def same_word(self, value: int) -> Any:
        return ir.Constant(self.words, [value] * self.lanes)

    def spread_word(self, value: Any) -> Any:
        """Return the int64 `value` in every lane."""
        narrow = value if self.wide else self.builder.trunc(value, I32)
        first = self.builder.insert_element(
            ir.Constant(self.words, ir.Undefined), narrow, ir.Constant(I32, 0)
        )
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), None)
        return self.builder.shuffle_vector(first, ir.Constant(self.words, ir.Undefined), zeros)

    def pointer(self, address: Any) -> Any:
        return self.builder.inttoptr(address, self.element.as_pointer())

    def larger(self, a: Any, b: Any) -> Any:
        """Return the larger of a and b, and b if a is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def limit(self, r: Any, seen: Any, more: Any, most: Any) -> Any:
        """Return the number of keys that query `r` sees, in every lane."""
        builder, zero = self.builder, index(0)
        limit = builder.add(seen, builder.mul(r, more))
        limit = builder.select(builder.icmp_signed("<", limit, most), limit, most)
        return self.spread_word(builder.select(builder.icmp_signed(">", limit, zero), limit, zero))

    def visible(self, i: Any, limit: Any) -> Any:
        """Return, for the lanes of vector number `i`, whether their key's number is below `limit`."""
        lane = ir.Constant(self.words, list(range(self.lanes)))
        number = self.builder.add(self.spread_word(self.builder.mul(i, index(self.lanes))), lane)
        return self.builder.icmp_signed("<", number, limit)

    def masked(self, base: Any, i: Any, limit: Any, bias: Any) -> Any:
        """Return vector `i` of a row of scores, with the bias, and -inf where a key is not seen."""
        builder, at = self.builder, self.builder.mul(i, index(self.lanes))
        scores, seen = self.vectors.load(base, at), self.visible(i, limit)
        if bias is not None:
            added = self.vectors.load(bias, at)
            scores = builder.fadd(scores, added)
            seen = builder.and_(seen, builder.fcmp_unordered("!=", added, self.same(-inf)))
        return builder.select(seen, scores, self.same(-inf))

    def exponential(self, x: Any) -> Any:
        """Return e**x for x of at most about 1. It is 0 where the result would be subnormal, and NaN for NaN.

        With n = round(x / ln 2) and r = x - n ln 2, e**x = 2**n (1 + r + r**2 q(r)).
        """
        builder, fma = self.builder, self.vectors.multiply_add
        if self.wide:
            low, bits, bias, fraction = -708.3, 0x4338000000000000, 1023, 52
            high_part, low_part = 0.6931471803691238, 1.9082149292705877e-10
        else:
            low, bits, bias, fraction = -87.33, 0x4B400000, 127, 23
            high_part, low_part = 0.69314575, 1.4286068e-06
        shift = self.same(1.5 * 2.0**fraction)
        assert bits % (1 << (12 if self.wide else 9)) == 0  # the shift's own bits leave at the top
        small = builder.fcmp_ordered("<", x, self.same(low))
        held = builder.select(small, self.same(low), x)
        rounded = fma(held, self.same(1.4426950408889634), shift)
        n = builder.fsub(rounded, shift)
        r = fma(n, self.same(-high_part), held)
        r = fma(n, self.same(-low_part), r)
        q = self.same(self.series[-1])
        for coefficient in reversed(self.series[:-1]):
            q = fma(q, r, self.same(coefficient))
        p = fma(builder.fmul(r, r), q, r)
        word = builder.shl(builder.bitcast(rounded, self.words), self.same_word(fraction))
        power = builder.bitcast(builder.add(word, self.same_word(bias << fraction)), self.vectors.type)
        return builder.select(small, self.vectors.zero, fma(power, p, power))

    def centre(self, n: Any, probabilities: Any, slopes: Any) -> Any:
        """Return the slope where e**(S - top) is 1, in `n` vectors; 0 if it is so nowhere."""
        builder, load = self.builder, self.vectors.load
        with loop(builder, "centre", n, [self.same(-inf)]) as (i, (found,), following):
            at = builder.mul(i, index(self.lanes))
            is_top = builder.fcmp_ordered("==", load(probabilities, at), self.same(1.0))
            here = builder.select(is_top, load(slopes, at), self.same(-inf))
            following.append(self.larger(here, found))
        largest = across(builder, self.vectors, following[0], self.larger)
        none = builder.fcmp_ordered("==", largest, ir.Constant(self.element, -inf))
        return builder.select(none, ir.Constant(self.element, 0.0), largest)

    def weighed(self, p: Any, slope: Any) -> Any:
        """Return p times `slope`, and 0 where p is 0, whatever the slope is: keys that are not seen may hold NaN."""
        builder = self.builder
        some = builder.fcmp_unordered("!=", p, self.vectors.zero)
        return builder.select(some, builder.fmul(p, slope), self.vectors.zero)


@cache
def softmax_rows(
    wide: bool, biased: bool, dropped: bool, distance: int, series: tuple[float, ...]
) -> Callable[..., None]:
    """Return a Numba intrinsic that takes the scores of some queries and a block of keys into their running softmax.

        top' = max(top, S)    scale = e**(top - top')    p = e**(S - top')    sum_0 = scale sum_0 + Σ p
        w_t = p (dS_t - c_t)  sum_t = scale sum_t + Σ w_t

    c_t is dS_t of the key with the largest score of the first block. Any number does in the end, since Σ p v is the
    softmax's own mean, but this one lets what would cancel be zero where a query looks at a single key. p takes the
    place of S, and w_t that of dS_t; with `dropped` both times the factors m. The intrinsic takes ``(rows, vectors,
    seen, more, most, count, scores, apart, bias, factors, tops, scales, sums, sums_apart, first, centres,
    centres_apart)``, all int64:

    - rows, vectors: number of queries, and of vectors of scores of each, at least 1;
    - seen, more, most: query r sees the first ``seen + r * more`` keys, from 0 to `most`; p of the others is 0;
    - count: number of directions;
    - scores, apart: address of S, elements from it to dS_0, and from dS_t to the next;
    - bias, factors: addresses of what is added to S, and of m. They are read only if they are there;
    - tops, scales: addresses of a number for each query;
    - sums, sums_apart: address of ``LANES`` sums for each query, and elements from them to those of each direction;
    - first: 1 with the first block of keys, which decides c; centres, centres_apart: address of a number c_0 for each
      query, and elements from it to c_1.

    Parameters
    ----------
    wide : bool
        Whether the numbers are float64.
    biased, dropped : bool
        Whether there is a bias, and whether there are factors. A key whose bias is -inf is not seen.
    distance : int
        Elements from one query's row of scores, of the bias and of factors to the next's.
    series : tuple of float
        Coefficients of the exponential in float32.

    Notes
    -----
    Cost: 16 instructions for an exponential in float32, and about 12 for each vector beside it, 5 for each direction.
    Maxima come first for all queries, so that the exponentials of their changes are a vector's, and no query waits for
    the one before.
    """

    @intrinsic
    def rows(  # type: ignore[no-untyped-def]
        typingctx,
        rows,
        vectors,
        seen,
        more,
        most,
        count,
        scores,
        apart,
        bias,
        factors,
        tops,
        scales,
        sums,
        sums_apart,
        first,
        centres,
        centres_apart,
    ):
        signature = types.void(*(types.int64,) * 17)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            do = _Scores(builder, wide, series)
            rows, n, seen, more, most, count, _, apart = args[:8]
            scores, bias, factors, tops, scales, sums = (do.pointer(args[k]) for k in (6, 8, 9, 10, 11, 12))
            is_first, centres = builder.icmp_signed("!=", args[14], index(0)), do.pointer(args[15])
            load, store, lanes = do.vectors.load, do.vectors.store, do.lanes
            infinite = ir.Constant(do.element, -inf)

            def row_of(base: Any, r: Any, length: int = distance) -> Any:
                return builder.gep(base, [builder.mul(r, index(length))])

            with loop(builder, "largest-of", rows, []) as (r, _, _):
                limit, row, added = (
                    do.limit(r, seen, more, most),
                    row_of(scores, r),
                    row_of(bias, r) if biased else None,
                )
                with loop(builder, "largest", n, [do.same(-inf)]) as (i, (largest,), following):
                    s = do.masked(row, i, limit, added)
                    if biased:
                        store(s, row, builder.mul(i, index(lanes)))
                    following.append(do.larger(s, largest))
                place, change = builder.gep(tops, [r]), builder.gep(scales, [r])
                before = builder.load(place)
                new = do.larger(across(builder, do.vectors, following[0], do.larger), before)
                builder.store(new, place)
                # Before any key is seen, the maximum is -inf, and the difference of two of them would be NaN.
                none = builder.fcmp_ordered("==", new, infinite)
                new = builder.select(none, ir.Constant(do.element, 0.0), new)
                builder.store(builder.fsub(before, new), change)

            whole = builder.sdiv(builder.add(rows, index(lanes - 1)), index(lanes))
            with loop(builder, "scale", whole, []) as (i, _, _):
                at = builder.mul(i, index(lanes))
                store(do.exponential(load(scales, at)), scales, at)

            with loop(builder, "exponential-of", rows, []) as (r, _, _):
                limit, row, own = do.limit(r, seen, more, most), row_of(scores, r), row_of(sums, r, lanes)
                top = builder.load(builder.gep(tops, [r]))
                none = builder.fcmp_ordered("==", top, infinite)
                top = do.vectors.splat(builder.select(none, ir.Constant(do.element, 0.0), top))
                scale = do.vectors.splat(builder.load(builder.gep(scales, [r])))
                with loop(builder, "exponential", n, [do.vectors.zero]) as (i, (total,), following):
                    at = builder.mul(i, index(lanes))
                    s = load(row, at) if biased else do.masked(row, i, limit, None)
                    p = do.exponential(builder.fsub(s, top))
                    store(p, row, at)
                    following.append(builder.fadd(total, p))
                total = do.vectors.multiply_add(load(own, index(0)), scale, following[0])
                store(total, own, index(0))

                drops = row_of(factors, r) if dropped else None
                with _each(builder, count) as t:
                    moved = builder.gep(row, [builder.mul(builder.add(t, index(1)), apart)])
                    place = builder.mul(builder.add(t, index(1)), args[13])
                    centre = builder.gep(centres, [builder.add(builder.mul(t, args[16]), r)])
                    with builder.if_then(is_first):
                        builder.store(do.centre(n, row, moved), centre)
                    middle = do.vectors.splat(builder.load(centre))
                    with loop(builder, "slope", n, [do.vectors.zero]) as (i, (total,), following):
                        at = builder.mul(i, index(lanes))
                        w = do.weighed(load(row, at), builder.fsub(load(moved, at), middle))
                        following.append(builder.fadd(total, w))
                        store(builder.fmul(w, load(drops, at)) if dropped else w, moved, at)
                    total = do.vectors.multiply_add(load(own, place), scale, following[0])
                    store(total, own, place)

                if dropped:
                    with loop(builder, "drop", n, []) as (i, _, _):
                        at = builder.mul(i, index(lanes))
                        store(builder.fmul(load(row, at), load(drops, at)), row, at)
            return context.get_dummy_value()

        return signature, codegen

    return rows


@cache
def slope_rows(
    wide: bool, biased: bool, dropped: bool, distance: int, series: tuple[float, ...]
) -> Callable[..., None]:
    """Return a Numba intrinsic that computes the slope of queries' softmax in closed form, for a block of keys.

        p = e**(S - L)        dS = p (m g - D)

    where L is the logarithm of a query's sum of exponentials, g the error signal of p m, and D = Σ p m g over all keys.
    p m takes the place of S, and dS that of g. The intrinsic takes ``(rows, vectors, seen, more, most, scores, signals,
    bias, factors, logs, dots)``, all int64: the first five, `scores`, `bias` and `factors` as :func:`softmax_rows`; the
    address of g; the addresses of L and D, a number for each query.

    Parameters
    ----------
    wide, biased, dropped, distance, series :
        As those of :func:`softmax_rows`.
    """

    @intrinsic
    def slopes(  # type: ignore[no-untyped-def]
        typingctx, rows, vectors, seen, more, most, scores, signals, bias, factors, logs, dots
    ):
        signature = types.void(*(types.int64,) * 11)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            do = _Scores(builder, wide, series)
            scores, signals, bias, factors, logs, dots = (do.pointer(address) for address in args[5:])
            load, store = do.vectors.load, do.vectors.store
            with loop(builder, "row", args[0], []) as (r, _, _):
                limit = do.limit(r, *args[2:5])
                start = builder.mul(r, index(distance))
                row, moved, added, drops = (
                    builder.gep(base, [start]) for base in (scores, signals, bias, factors)
                )
                log, dot = (do.vectors.splat(builder.load(builder.gep(one, [r]))) for one in (logs, dots))
                with loop(builder, "slope", args[1], []) as (i, _, _):
                    at = builder.mul(i, index(do.lanes))
                    s = do.masked(row, i, limit, added if biased else None)
                    p = do.exponential(builder.fsub(s, log))
                    g = load(moved, at)
                    if dropped:
                        m = load(drops, at)
                        g = builder.fmul(g, m)
                        store(do.weighed(p, m), row, at)
                    else:
                        store(p, row, at)
                    store(do.weighed(p, builder.fsub(g, dot)), moved, at)
            return context.get_dummy_value()

        return signature, codegen

    return slopes


@contextmanager
def _each(builder: Any, n: Any) -> Iterator[Any]:
    """Append a loop over the numbers below n, which may be none. Yields the counter."""
    before = builder.block
    head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(I64)
    i.add_incoming(index(0), before)
    builder.cbranch(builder.icmp_signed("<", i, n), body, after)
    builder.position_at_end(body)
    yield i
    i.add_incoming(builder.add(i, index(1)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)
