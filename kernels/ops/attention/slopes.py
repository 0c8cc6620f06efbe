"""Attention's slope in closed form on the CPU: from the error signal of y to those of queries, keys and values.

    D_i = Σ_c signal_ic y_ic        dp = m (signal vᵀ)        dS = p (dp - D)
    dq  = scale dS k                dk = scale dSᵀ q          dv = (p m)ᵀ signal

p is computed again, from q, k and the logarithm of the sum of exponentials. A part takes examples and heads of keys,
with all heads of queries that read them, so that it owns what it writes: blocks of keys, and for each of them blocks
of queries. The sums of dk and dv stay in scratch memory until all queries are through; those of dq wait in dq.

Source: T. Dao et al., FlashAttention, arXiv 2205.14135, algorithm 4.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer, slope_rows
from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.layout import heads
from fgnumba.kernels.layout.heads import Heads, Mask
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import parts_for, split
from fgnumba.kernels.ops.attention import KEYS, ONE, SCALE, SCORE_ROW
from fgnumba.kernels.ops.attention.moves import copy_rows, dotter, turn
from fgnumba.kernels.ops.attention.plan import FIELDS, Setting, Sizes, check, products
from fgnumba.kernels.ops.attention.visible import is_seen, keys_seen, prepare_row
from fgnumba.kernels.rules.elementary import EXPM1
from fgnumba.validation.launcher import launcher

_OPERANDS = ("q", "k", "v", "y", "signal", "dq", "dk", "dv")

_ARGUMENTS = record(
    *(field for operand in _OPERANDS for field in heads.fields(operand)),
    *FIELDS,
    *("key_height", "ones", "row_dots", "size_tile", "size_last", "key_size_tile", "key_size_last"),
    *("key_value_tile", "key_value_last", "at_queries", "at_signals", "at_turned_keys", "at_turned_values"),
    *("at_keys", "at_scores", "at_slopes", "at_logs", "at_dots", "at_dq", "at_dk", "at_dv"),
)


@launcher
def bind_gradients(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    q: Heads,
    k: Heads,
    v: Heads,
    y: Heads,
    signal: Heads,
    log_sum_exp: npt.NDArray[Any],
    dq: Heads,
    dk: Heads,
    dv: Heads,
    scale: float,
    causal: bool = False,
    mask: Mask | None = None,
    dropout: float = 0.0,
    stream: npt.NDArray[Any] | None = None,
    layer: int = 0,
) -> list[Operation]:
    """Bind attention's slope in closed form, from the error signal of y to those of q, k and v.

    Parameters
    ----------
    isa, threads, batch, q, k, v, y, scale, causal, mask, dropout, stream, layer :
        As those of :func:`fgnumba.kernels.ops.attention.cpu.bind`. Only the primals are read.
    signal : Heads
        The error signal of y, (H, Lq, Dv).
    log_sum_exp : array, (B, H, Lq)
        What ``cpu.bind`` wrote.
    dq, dk, dv : Heads
        Written: error signals of q, k and v, with their shapes; sums over the heads that read a head of keys. They must
        overlap neither each other nor what is read.

    Raises
    ------
    ShapeError, ConfigError
        The operands do not fit each other.

    Notes
    -----
    Cost: 3 D + 2 Dv multiply-adds for each pair of a query and a key that it sees. Reads q and signal once for each
    block of keys. There are at most as many parts as heads of keys in the batch.
    """
    operands = dict(zip(_OPERANDS, (q, k, v, y, signal, dq, dk, dv), strict=True))
    check(batch, q, k, v, mask, dropout, stream, y=y, signal=signal, dq=dq, dk=dk, dv=dv)
    sizes = Sizes.of(isa, q, k, v, 0)
    setting = Setting(scale, causal, mask, dropout, stream, layer, log_sum_exp)
    fields, keeps = setting.fields(isa, sizes, batch, q, k, v)
    size, value_size, item = q.shape[2], v.shape[2], sizes.itemsize
    key_height = sizes.key_height(isa, k)
    ones = np.ones(isa.max_rows, q.memory.dtype)
    copied, keys = sizes.copied_bytes(sizes.block), sizes.copied_bytes(KEYS + isa.max_rows)
    offsets, end = lay_out(
        [
            ("at_queries", copied),
            ("at_signals", copied),
            ("at_turned_keys", sizes.turned_bytes(size)),
            ("at_turned_values", sizes.turned_bytes(value_size)),
            ("at_keys", sizes.copied_bytes(KEYS)),
            ("at_scores", sizes.scores_bytes()),
            ("at_slopes", sizes.scores_bytes()),
            ("at_logs", sizes.block * item),
            ("at_dots", sizes.block * item),
            ("at_dq", copied),
            ("at_dk", keys),
            ("at_dv", keys),
            *setting.row_bytes(isa, sizes),
        ]
    )
    arguments = {
        **{key: value for name, operand in operands.items() for key, value in operand.fields(name).items()},
        **fields,
        **offsets,
        "key_height": key_height,
        "ones": address(ones),
        "row_dots": dotter(sizes.wide),
        "rows": _rows(sizes.wide, mask is not None, dropout > 0),
        "size_tile": sizes.values_tile(isa, sizes.panel),
        "size_last": sizes.values_tile(isa, sizes.last(size)),
        "key_size_tile": sizes.turned_tile(isa, key_height, sizes.panel),
        "key_size_last": sizes.turned_tile(isa, key_height, sizes.last(size)),
        "key_value_tile": sizes.turned_tile(isa, key_height, sizes.panel),
        "key_value_last": sizes.turned_tile(isa, key_height, sizes.last(value_size)),
    }
    work = batch * q.shape[0] * products(q, k, causal) * (3 * size + 2 * value_size)
    return [
        Operation(
            "attention-gradients",
            _entry(sizes.wide),
            filled(_ARGUMENTS, arguments),
            parts_for(work, batch * k.shape[0], threads),
            scratch_bytes=end,
            multiply_adds=work,
            keeps=(operands, ones, keeps),
        )
    ]


@cache
def _rows(wide: bool, biased: bool, dropped: bool) -> int:
    emitted = slope_rows(wide, biased, dropped, SCORE_ROW, tuple(float(each) for each in EXPM1))

    def slopes(
        rows: int,
        vectors: int,
        seen: int,
        more: int,
        most: int,
        scores: int,
        signals: int,
        bias: int,
        factors: int,
        logs: int,
        dots: int,
    ) -> None:
        emitted(rows, vectors, seen, more, most, scores, signals, bias, factors, logs, dots)

    terms = "-biased" * biased + "-dropped" * dropped
    return kernel(f"softmax-slopes-{64 if wide else 32}{terms}", slopes, 11)


@cache
def _entry(wide: bool) -> int:
    number = np.float64 if wide else np.float32

    def gradients(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        first, last = split(a.batch * a.groups, parts, part)
        each = a.query_heads // a.groups
        for index in range(first, last):
            i, g = index // a.groups, index % a.groups
            # Without any key, one empty block writes the zeros of dq.
            for j in range(0, max(1, a.keys), KEYS):
                n = min(KEYS, a.keys - j)
                finite = _load_keys(a, i, g, j, n)
                begun = False
                for h in range(g * each, (g + 1) * each):
                    for query in range(0, a.queries, a.block):
                        seen = keys_seen(a, min(a.queries, query + a.block) - 1, 0, a.keys)
                        if seen > j or j == 0 or not begun:
                            _queries(a, number, i, h, query, j, n, seen, finite, begun)
                            begun = True
                _store_keys(a, i, g, j, n)

    return kernel(f"attention-gradients-{64 if wide else 32}", gradients, 3)


@register_jitable
def _load_keys(a: Any, i: int, g: int, j: int, n: int) -> bool:
    """Bring `n` keys and values, from key `j` on, into scratch memory. Return whether all keys are finite."""
    finite = carray(pointer(a.scratch + a.at_finite, np.int64), 1)
    finite[0] = 1
    keys = a.k + (i * a.k_example + g * a.k_head + j * a.k_row) * a.item
    values = a.v + (i * a.v_example + g * a.v_head + j * a.v_row) * a.item
    if n > 0:
        turn(a, keys, a.k_row, n, a.size, a.scratch + a.at_turned_keys)
        turn(a, values, a.v_row, n, a.value_size, a.scratch + a.at_turned_values)
        copy_rows(a, keys, a.k_row, n, a.size, ONE, a.scratch + a.at_keys)
    return bool(finite[0] != 0)


@register_jitable
def _store_keys(a: Any, i: int, g: int, j: int, n: int) -> None:
    if n > 0:
        one, finite = a.numbers + ONE * a.item, a.scratch + a.at_finite
        dk = a.dk + (i * a.dk_example + g * a.dk_head + j * a.dk_row) * a.item
        dv = a.dv + (i * a.dv_example + g * a.dv_head + j * a.dv_row) * a.item
        sums = a.scratch + a.at_dk
        call(a.scale_rows, (n, a.size, sums, a.distance, one, 0, 0, 0, 0, dk, a.dk_row, finite))
        sums = a.scratch + a.at_dv
        call(a.scale_rows, (n, a.value_size, sums, a.distance, one, 0, 0, 0, 0, dv, a.dv_row, finite))


@register_jitable
def _queries(
    a: Any,
    number: Any,
    i: int,
    h: int,
    query: int,
    j: int,
    n: int,
    seen: int,
    finite: bool,
    begun: bool,
) -> None:
    """Add a block of queries, of which the last sees `seen` keys of all, to the sums of a block of keys, or begin them.

    dq is written in full when the last of its blocks of keys is through.
    """
    rows = min(a.block, a.queries - query)
    finite &= _load_queries(a, number, i, h, query, rows)
    _scores(a, query, rows, j, n)
    for row in range(0, rows, a.height):
        last = min(rows, row + a.height) - 1
        terms = keys_seen(a, query + last, j, n)
        if terms > 0:
            _slopes(a, number, i, h, query, row, last, j, n, terms)
    dq = a.dq + (i * a.dq_example + h * a.dq_head + query * a.dq_row) * a.item
    if j > 0 and seen > j:
        copy_rows(a, dq, a.dq_row, rows, a.size, ONE, a.scratch + a.at_dq)
    if finite:
        _query_sums(a, query, rows, j, n)
        _key_sums(a, query, rows, j, n, begun)
    else:
        _sums_carefully(a, number, i, h, query, rows, j, n, begun)
    if seen > j or j == 0:
        factor = a.numbers + (SCALE if j + KEYS >= seen else ONE) * a.item
        sums, odd = a.scratch + a.at_dq, a.scratch + a.at_finite
        call(a.scale_rows, (rows, a.size, sums, a.distance, factor, 0, 0, 0, 0, dq, a.dq_row, odd))


@register_jitable
def _load_queries(a: Any, number: Any, i: int, h: int, query: int, rows: int) -> bool:
    """Bring queries and signals into scratch memory, with D and L. Return whether all of them are finite."""
    finite = carray(pointer(a.scratch + a.at_finite, np.int64), 1)
    finite[0] = 1
    at = a.q + (i * a.q_example + h * a.q_head + query * a.q_row) * a.item
    copy_rows(a, at, a.q_row, rows, a.size, SCALE, a.scratch + a.at_queries)
    signal = a.signal + (i * a.signal_example + h * a.signal_head + query * a.signal_row) * a.item
    copy_rows(a, signal, a.signal_row, rows, a.value_size, ONE, a.scratch + a.at_signals)
    y = a.y + (i * a.y_example + h * a.y_head + query * a.y_row) * a.item
    call(a.row_dots, (rows, a.value_size, signal, a.signal_row, y, a.y_row, a.scratch + a.at_dots))
    at = a.log_sum_exp + ((i * a.query_heads + h) * a.queries + query) * a.item
    given, logs = carray(pointer(at, number), rows), carray(pointer(a.scratch + a.at_logs, number), rows)
    for r in range(rows):
        # A query that sees no key has p = 0 with any finite number.
        logs[r] = number(0) if given[r] == number(-np.inf) else given[r]
    return bool(finite[0] != 0)


@register_jitable
def _scores(a: Any, query: int, rows: int, j: int, n: int) -> None:
    """Compute S and signal vᵀ, panel by panel, for the tiles of queries that see a key of the panel."""
    for panel in range(0, n, a.panel):
        first = max(0, j + panel + a.queries - a.keys - query) if a.causal else 0
        keys = a.scratch + a.at_turned_keys + panel * a.size * a.item
        values = a.scratch + a.at_turned_values + panel * a.value_size * a.item
        for row in range(first // a.height * a.height, rows, a.height):
            place, out = row * a.distance * a.item, (row * SCORE_ROW + panel) * a.item
            x, signal = a.scratch + a.at_queries + place, a.scratch + a.at_signals + place
            call(a.scores_tile, (a.size, x, keys, 0, 0, 0, a.scratch + a.at_scores + out))
            call(a.scores_tile, (a.value_size, signal, values, 0, 0, 0, a.scratch + a.at_slopes + out))


@register_jitable
def _slopes(
    a: Any, number: Any, i: int, h: int, query: int, row: int, last: int, j: int, n: int, terms: int
) -> None:
    """Replace the scores of a tile of queries by p m and dS, with zeros for the keys that its turned tiles read too."""
    if a.mask != 0 or a.dropout:
        for r in range(row, last + 1):
            prepare_row(a, number, i, h, query + r, j, terms, r - row)
    place = row * SCORE_ROW * a.item
    call(
        a.rows,
        (
            last + 1 - row,
            (terms + a.key_height - 2 + a.lanes) // a.lanes,
            query + row + 1 + a.keys - a.queries - j if a.causal else n,
            a.causal,
            n,
            a.scratch + a.at_scores + place,
            a.scratch + a.at_slopes + place,
            a.scratch + a.at_bias,
            a.scratch + a.at_factors,
            a.scratch + a.at_logs + row * a.item,
            a.scratch + a.at_dots + row * a.item,
        ),
    )


@register_jitable
def _query_sums(a: Any, query: int, rows: int, j: int, n: int) -> None:
    """Add dS k to the sums of dq, or begin them with the first block of keys."""
    scales = a.ones if j > 0 else 0
    for c in range(0, a.size, a.panel):
        tile = a.size_tile if a.size - c > a.panel else a.size_last
        for row in range(0, rows, a.height):
            terms = keys_seen(a, query + min(rows, row + a.height) - 1, j, n)
            x = a.scratch + a.at_slopes + row * SCORE_ROW * a.item
            out = a.scratch + a.at_dq + (row * a.distance + c) * a.item
            call(tile, (terms, x, a.scratch + a.at_keys + c * a.item, 0, 0, scales, out))


@register_jitable
def _key_sums(a: Any, query: int, rows: int, j: int, n: int, begun: bool) -> None:
    """Add dSᵀ q to the sums of dk, and (p m)ᵀ signal to those of dv, or begin them."""
    scales = a.ones if begun else 0
    for key in range(0, n, a.key_height):
        # The first query that sees the first key of the tile; those before it see none.
        first = max(0, j + key + a.queries - a.keys - query) if a.causal else 0
        terms, place = rows - first, (first * SCORE_ROW + key) * a.item
        if terms <= 0 and begun:
            break
        for c in range(0, a.size, a.panel):
            tile = a.key_size_tile if a.size - c > a.panel else a.key_size_last
            w = a.scratch + a.at_queries + (first * a.distance + c) * a.item
            out = a.scratch + a.at_dk + (key * a.distance + c) * a.item
            call(tile, (terms, a.scratch + a.at_slopes + place, w, 0, 0, scales, out))
        for c in range(0, a.value_size, a.panel):
            tile = a.key_value_tile if a.value_size - c > a.panel else a.key_value_last
            w = a.scratch + a.at_signals + (first * a.distance + c) * a.item
            out = a.scratch + a.at_dv + (key * a.distance + c) * a.item
            call(tile, (terms, a.scratch + a.at_scores + place, w, 0, 0, scales, out))


@register_jitable
def _sums_carefully(
    a: Any, number: Any, i: int, h: int, query: int, rows: int, j: int, n: int, begun: bool
) -> None:
    """Add all three sums where a number is not finite: 0 times one that is not seen would be NaN."""
    p = carray(pointer(a.scratch + a.at_scores, number), (a.block, SCORE_ROW))
    slopes = carray(pointer(a.scratch + a.at_slopes, number), (a.block, SCORE_ROW))
    q = carray(pointer(a.scratch + a.at_queries, number), (a.block, a.distance))
    k = carray(pointer(a.scratch + a.at_keys, number), (KEYS, a.distance))
    signal = carray(pointer(a.scratch + a.at_signals, number), (a.block, a.distance))
    dq = carray(pointer(a.scratch + a.at_dq, number), (a.block, a.distance))
    dk = carray(pointer(a.scratch + a.at_dk, number), (KEYS, a.distance))
    dv = carray(pointer(a.scratch + a.at_dv, number), (KEYS, a.distance))
    for s in range(0 if begun else n):
        for c in range(a.size):
            dk[s, c] = number(0)
        for c in range(a.value_size):
            dv[s, c] = number(0)
    for r in range(rows):
        for c in range(0 if j > 0 else a.size):
            dq[r, c] = number(0)
        for s in range(keys_seen(a, query + r, j, n)):
            if is_seen(a, number, i, h, query + r, j + s):
                for c in range(a.size):
                    dq[r, c] += slopes[r, s] * k[s, c]
                    dk[s, c] += slopes[r, s] * q[r, c]
                for c in range(a.value_size):
                    dv[s, c] += p[r, s] * signal[r, c]
