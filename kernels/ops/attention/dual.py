"""The kernel of attention's forward pass on the CPU: blocks of queries, with the blocks of keys that they see."""

from functools import cache
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer, softmax_rows
from fgnumba.kernels.layout import heads
from fgnumba.kernels.machine.arguments import record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.work import split
from fgnumba.kernels.ops.attention import KEYS, ONE, SCALE, SCORE_ROW
from fgnumba.kernels.ops.attention.moves import copy_rows, turn
from fgnumba.kernels.ops.attention.plan import FIELDS
from fgnumba.kernels.ops.attention.visible import is_seen, keys_seen, prepare_row, sees_any
from fgnumba.kernels.rules.elementary import EXPM1

ARGUMENTS = record(
    *(field for operand in ("q", "k", "v", "y") for field in heads.fields(operand)),
    *FIELDS,
    *("count", "directions", "dq", "dk", "dv", "values_tile", "values_last"),
    *(
        "at_queries",
        "at_turned",
        "at_values",
        "at_scores",
        "at_sums",
        "at_tops",
        "at_scales",
        "at_totals",
        "at_divisors",
        "at_centres",
    ),
    *("combine_rows", "lane_sums", "copied", "turned", "valued", "scored", "totals"),
)


@cache
def rows_kernel(wide: bool, biased: bool, dropped: bool) -> int:
    """Return the address of a kernel whose arguments ``emit.softmax_rows`` describes."""
    emitted = softmax_rows(wide, biased, dropped, SCORE_ROW, tuple(float(each) for each in EXPM1))

    def softmax(
        rows: int,
        vectors: int,
        seen: int,
        more: int,
        most: int,
        count: int,
        scores: int,
        apart: int,
        bias: int,
        factors: int,
        tops: int,
        scales: int,
        sums: int,
        sums_apart: int,
        first: int,
        centres: int,
        centres_apart: int,
    ) -> None:
        emitted(
            *(rows, vectors, seen, more, most, count),
            *(scores, apart, bias, factors, tops, scales, sums, sums_apart, first, centres, centres_apart),
        )

    terms = "-biased" * biased + "-dropped" * dropped
    return kernel(f"softmax-{64 if wide else 32}{terms}", softmax, 17)


@cache
def entry(wide: bool) -> int:
    """Return the address of the kernel, for float64 if `wide`."""
    number = np.float64 if wide else np.float32

    def attention(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, ARGUMENTS), 1)[0]
        blocks = (a.queries + a.block - 1) // a.block
        first, last = split(a.batch * a.query_heads * blocks, parts, part)
        for index in range(first, last):
            i, h = index // (a.query_heads * blocks), index // blocks % a.query_heads
            query = index % blocks * a.block
            _queries(a, number, i, h, query, 0, min(a.directions, a.count))
            for t in range(a.directions, a.count, max(1, a.directions)):
                _queries(a, number, i, h, query, t, min(a.directions, a.count - t))

    return kernel(f"attention-{64 if wide else 32}", attention, 3)


@register_jitable
def _queries(a: Any, number: Any, i: int, h: int, query: int, t: int, count: int) -> None:
    """Compute a block of queries, from `query` on, and `count` tangents, from direction `t` on."""
    rows = min(a.block, a.queries - query)
    g = h // (a.query_heads // a.groups)
    _begin(a, number, i, h, query, rows, t, count)
    seen = keys_seen(a, query + rows - 1, 0, a.keys)
    for j in range(0, seen, KEYS):
        n = min(KEYS, seen - j)
        finite = _load_keys(a, i, g, j, n, t, count)
        _scores(a, query, rows, j, n, count)
        for row in range(0, rows, a.height):
            last = min(rows, row + a.height) - 1
            terms = keys_seen(a, query + last, j, n)
            if terms > 0:
                _softmax(a, number, i, h, query, row, last, j, n, terms, count)
                if finite:
                    _values(a, row, terms, count, j == 0)
                else:
                    _values_carefully(a, number, i, h, query, row, last, j, terms, count)
    _end(a, number, i, h, query, rows, t, count)


@register_jitable
def _begin(a: Any, number: Any, i: int, h: int, query: int, rows: int, t: int, count: int) -> None:
    """Copy the queries, and let maxima and sums be those of no keys."""
    place = (i * a.q_example + h * a.q_head + query * a.q_row) * a.item
    copy_rows(a, a.q + place, a.q_row, rows, a.size, SCALE, a.scratch + a.at_queries)
    if a.dq:
        for m in range(1, count + 1):
            moved = a.q_tangents + place + (t + m - 1) * a.q_block * a.item
            out = a.scratch + a.at_queries + m * a.copied
            copy_rows(a, moved, a.q_row, rows, a.size, SCALE, out)
    tops = carray(pointer(a.scratch + a.at_tops, number), rows)
    for r in range(rows):
        tops[r] = number(-np.inf)
    for m in range(1 + count):
        totals = carray(pointer(a.scratch + a.at_totals + m * a.totals, number), rows * a.lanes)
        for r in range(len(totals)):
            totals[r] = number(0)


@register_jitable
def _load_keys(a: Any, i: int, g: int, j: int, n: int, t: int, count: int) -> bool:
    """Bring `n` keys and values, from key `j` on, into scratch memory. Return whether all values are finite."""
    finite = carray(pointer(a.scratch + a.at_finite, np.int64), 1)
    finite[0] = 1
    keys = (i * a.k_example + g * a.k_head + j * a.k_row) * a.item
    values = (i * a.v_example + g * a.v_head + j * a.v_row) * a.item
    turn(a, a.k + keys, a.k_row, n, a.size, a.scratch + a.at_turned)
    copy_rows(a, a.v + values, a.v_row, n, a.value_size, ONE, a.scratch + a.at_values)
    for m in range(1, count + 1):
        if a.dk:
            moved = a.k_tangents + keys + (t + m - 1) * a.k_block * a.item
            turn(a, moved, a.k_row, n, a.size, a.scratch + a.at_turned + m * a.turned)
        if a.dv:
            moved = a.v_tangents + values + (t + m - 1) * a.v_block * a.item
            out = a.scratch + a.at_values + m * a.valued
            copy_rows(a, moved, a.v_row, n, a.value_size, ONE, out)
    return bool(finite[0] != 0)


@register_jitable
def _scores(a: Any, query: int, rows: int, j: int, n: int, count: int) -> None:
    """Compute S and dS of a block of keys, panel by panel, for the tiles of queries that see a key of the panel."""
    turned, queries = a.scratch + a.at_turned, a.scratch + a.at_queries
    for panel in range(0, n, a.panel):
        first = max(0, j + panel + a.queries - a.keys - query) if a.causal else 0
        w, column = turned + panel * a.size * a.item, a.scratch + a.at_scores + panel * a.item
        for row in range(first // a.height * a.height, rows, a.height):
            x = queries + row * a.distance * a.item
            out = column + row * SCORE_ROW * a.item
            call(a.scores_tile, (a.size, x, w, 0, 0, 0, out))
            for m in range(1, count + 1):
                dx, dw = x + m * a.copied, w + m * a.turned
                if a.dq and a.dk:
                    call(a.scores_tile, (a.size, dx, w, x, dw, 0, out + m * a.scored))
                elif a.dq:
                    call(a.scores_tile, (a.size, dx, w, 0, 0, 0, out + m * a.scored))
                elif a.dk:
                    call(a.scores_tile, (a.size, x, dw, 0, 0, 0, out + m * a.scored))


@register_jitable
def _softmax(
    a: Any,
    number: Any,
    i: int,
    h: int,
    query: int,
    row: int,
    last: int,
    j: int,
    n: int,
    terms: int,
    count: int,
) -> None:
    """Take the scores of a tile of queries, `row` to `last`, of which the last sees `terms` keys, into the softmax."""
    if a.mask != 0 or a.dropout:
        for r in range(row, last + 1):
            prepare_row(a, number, i, h, query + r, j, terms, r - row)
    call(
        a.rows,
        (
            last + 1 - row,
            (terms + a.lanes - 1) // a.lanes,
            query + row + 1 + a.keys - a.queries - j if a.causal else n,
            a.causal,
            n,
            count if a.dq or a.dk else 0,
            a.scratch + a.at_scores + row * SCORE_ROW * a.item,
            a.scored // a.item,
            a.scratch + a.at_bias,
            a.scratch + a.at_factors,
            a.scratch + a.at_tops + row * a.item,
            a.scratch + a.at_scales + row * a.item,
            a.scratch + a.at_totals + row * a.lanes * a.item,
            a.totals // a.item,
            np.int64(j == 0),
            a.scratch + a.at_centres + row * a.item,
            a.block,
        ),
    )


@register_jitable
def _values(a: Any, row: int, terms: int, count: int, first: bool) -> None:
    """Add p v, and p dv + (p dS) v of each direction, to the sums of a tile of queries, or begin them."""
    scores = a.scratch + a.at_scores + row * SCORE_ROW * a.item
    sums = a.scratch + a.at_sums + row * a.distance * a.item
    scales = 0 if first else a.scratch + a.at_scales + row * a.item
    for c in range(0, a.value_size, a.panel):
        tile = a.values_tile if a.value_size - c > a.panel else a.values_last
        w, out = a.scratch + a.at_values + c * a.item, sums + c * a.item
        call(tile, (terms, scores, w, 0, 0, scales, out))
        for m in range(1, count + 1):
            dp, dw, to = scores + m * a.scored, w + m * a.valued, out + m * a.copied
            if a.dv and (a.dq or a.dk):
                call(tile, (terms, dp, w, scores, dw, scales, to))
            elif a.dv:
                call(tile, (terms, scores, dw, 0, 0, scales, to))
            elif a.dq or a.dk:
                call(tile, (terms, dp, w, 0, 0, scales, to))


@register_jitable
def _values_carefully(
    a: Any, number: Any, i: int, h: int, query: int, row: int, last: int, j: int, terms: int, count: int
) -> None:
    """Do the same for values that are not all finite: 0 times the value of a key that is not seen would be NaN."""
    scales = carray(pointer(a.scratch + a.at_scales, number), a.block)
    scores = carray(pointer(a.scratch + a.at_scores, number), (1 + count, a.block, SCORE_ROW))
    values = carray(pointer(a.scratch + a.at_values, number), (1 + count, KEYS, a.distance))
    sums = carray(pointer(a.scratch + a.at_sums, number), (1 + count, a.block, a.distance))
    for m in range(1 + count):
        for r in range(row, last + 1):
            for c in range(a.value_size):
                sums[m, r, c] = sums[m, r, c] * scales[r] if j > 0 else number(0)
            for s in range(keys_seen(a, query + r, j, terms)):
                if not is_seen(a, number, i, h, query + r, j + s):
                    continue
                for c in range(a.value_size):
                    if m == 0:
                        sums[m, r, c] += scores[0, r, s] * values[0, s, c]
                    else:
                        if a.dq or a.dk:
                            sums[m, r, c] += scores[m, r, s] * values[0, s, c]
                        if a.dv:
                            sums[m, r, c] += scores[0, r, s] * values[m, s, c]


@register_jitable
def _end(a: Any, number: Any, i: int, h: int, query: int, rows: int, t: int, count: int) -> None:
    """Divide the sums by that of p, and write y, its tangents and the logarithm of the sum."""
    factors = a.scratch + a.at_divisors
    for m in range(1 + count):
        call(a.lane_sums, (rows, a.scratch + a.at_totals + m * a.totals, factors + m * a.block * a.item))
    over = carray(pointer(factors, number), (1 + count, a.block))
    tops = carray(pointer(a.scratch + a.at_tops, number), rows)
    logs_at = a.log_sum_exp + ((i * a.query_heads + h) * a.queries + query) * a.item
    for r in range(rows):
        total = over[0, r]
        if a.log_sum_exp != 0:
            logs = carray(pointer(logs_at, number), rows)
            logs[r] = tops[r] + number(np.log(total)) if total != number(0) else number(-np.inf)
        over[0, r] = number(1) / total
        if total == number(0):
            # Where all scores are -inf by themselves, the softmax is not defined.
            over[0, r] = number(np.nan) if sees_any(a, number, i, h, query + r) else number(0)
            _clear(a, number, r, count)
        for m in range(1, count + 1):
            over[m, r] = -(over[m, r] * over[0, r]) * over[0, r]
    sums, finite = a.scratch + a.at_sums, a.scratch + a.at_finite
    place = (i * a.y_example + h * a.y_head + query * a.y_row) * a.item
    n = a.value_size
    call(a.scale_rows, (rows, n, sums, a.distance, factors, 1, 0, 0, 0, a.y + place, a.y_row, finite))
    for m in range(1, count + 1):
        own, g = sums + m * a.copied, factors + m * a.block * a.item
        dy = a.y_tangents + place + (t + m - 1) * a.y_block * a.item
        call(a.combine_rows, (rows, n, own, a.distance, factors, 1, sums, a.distance, g, dy, a.y_row, finite))


@register_jitable
def _clear(a: Any, number: Any, r: int, count: int) -> None:
    """Let the sums of a query that saw no key be zero: nothing was written to them."""
    sums = carray(pointer(a.scratch + a.at_sums, number), (1 + count, a.block, a.distance))
    for m in range(1 + count):
        for c in range(a.value_size):
            sums[m, r, c] = number(0)
