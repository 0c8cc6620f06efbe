"""The kernels of attention's slope in closed form on a GPU, with p again from q, k and log_sum_exp.

A block of the first kernel owns 32 queries and goes through the keys that they see; a block of the second one owns 32
keys of a head, and goes through the queries of all heads that read it, one after the other. So a block alone writes
what it owns, always in the same order.
"""

from typing import NamedTuple

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, kernel
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Floats,
    Size,
    barrier,
    block_x,
    block_z,
    divide,
    load_f32,
    narrow,
    shared,
    shared_load_f32,
    shared_store_f32,
    store_f32,
    thread,
    zeros,
)
from fgnumba.kernels.cuda.sums import WARPS, warp_sum
from fgnumba.kernels.ops.attention.loads_cuda import (
    COLUMNS,
    SIDE,
    STRIDE,
    THREADS,
    TILE,
    VALUES,
    Operand,
    Rows,
    Sizes,
    own_place,
    stage_values,
    start,
)
from fgnumba.kernels.ops.attention.scores_cuda import Dropped, Seen, draw_factors, keys_seen, score
from fgnumba.kernels.ops.attention.tiles_cuda import LANES, add_result, scores, store_rows, times_rows
from fgnumba.kernels.rules.elementary import exp

_OF_QUERIES, _OF_KEYS = 2 * TILE + VALUES, 2 * TILE + 2 * VALUES  # bytes of shared memory

_ZERO, _ONE, _NEGATIVE_INF = np.float32(0), np.float32(1), np.float32(-np.inf)


class Known(NamedTuple):
    """What is known of each query.

    Parameters
    ----------
    log_sum_exp : Address
        Address of the logarithms of the sums of exponentials, (B, H, Lq).
    dots : Address
        Address of D = Σ signal y, (B, H, Lq).
    """

    log_sum_exp: Address
    dots: Address


class Query(NamedTuple):
    """What a thread knows of one query.

    Parameters
    ----------
    log_sum_exp, dot : float32
        Logarithm of the sum of exponentials, and D.
    """

    log_sum_exp: np.float32
    dot: np.float32


@kernel("attention-dots")
def find_dots(signal: Operand, y: Operand, n: Sizes, rows: Size, dots: Address) -> None:
    """Write D = Σ signal y of each query, which a warp computes."""
    row = block_x() * WARPS + thread() // WARP
    if row >= rows:
        return
    rest, i = divide(row, n.queries)
    b, h = divide(rest, n.heads)
    signal_at = signal.address + 4 * (b * signal.example + h * signal.head + i * signal.row)
    y_at = y.address + 4 * (b * y.example + h * y.head + i * y.row)
    total, lane = _ZERO, thread() % WARP
    for c in range(lane, n.values, WARP):
        total += load_f32(signal_at + 4 * c) * load_f32(y_at + 4 * c)
    total = warp_sum(total)
    if lane == 0:
        store_f32(dots + 4 * row, total)


@device_function
def _known(known: Known, n: Sizes, head: int, query: int) -> Query:
    """Return what is known of a query; `head` counts the heads of all examples."""
    if query >= n.queries:
        return Query(_ZERO, _ZERO)
    at = 4 * (head * n.queries + query)
    return Query(load_f32(known.log_sum_exp + at), load_f32(known.dots + at))


@device_function
def _probability(s: np.float32, query: Query) -> np.float32:
    return _ZERO if s == _NEGATIVE_INF else exp(s - query.log_sum_exp)


@device_function
def _slope(s: np.float32, p: np.float32, dp: np.float32, query: Query) -> np.float32:
    """Return dS; where there is no key, `dp` may be anything."""
    return _ZERO if s == _NEGATIVE_INF else p * (dp - query.dot)


@device_function
def _factor(at: int, drops: int) -> np.float32:
    return shared_load_f32(at) if drops else _ONE


@kernel("attention-queries", threads=THREADS, resident=4, opcodes=("FFMA.FTZ", "LDGSTS"))
def to_queries(
    q: Operand,
    k: Operand,
    v: Operand,
    signal: Operand,
    dq: Operand,
    n: Sizes,
    seen: Seen,
    dropped: Dropped,
    known: Known,
    tiles: Size,
) -> None:
    """Write dq = scale dS k, dS = p (m (signal vᵀ) - D)."""
    memory = shared(_OF_QUERIES)
    head, tile = divide(block_x(), tiles)
    b, h = divide(head, n.heads)
    g, _ = divide(h, n.shared)
    query, column = narrow(tile * SIDE), narrow(block_z() * COLUMNS)
    team, lane = narrow(thread() // LANES), narrow(thread() % LANES)
    mine = narrow(query + 4 * team)

    to = own_place(memory)
    q_at, signal_at = start(q, to, b, h, query), start(signal, to, b, h, query)
    k_at, v_at = start(k, to, b, g, 0), start(v, to, b, g, 0)
    mask_at = b * seen.example + h * seen.head
    row_at = narrow(memory + 4 * team * STRIDE)
    key_at = narrow(memory + TILE + lane * STRIDE)
    value_at = narrow(memory + 2 * TILE + 16 * lane)
    cell = narrow(row_at + 4 * lane)
    known0, known1 = _known(known, n, head, mine), _known(known, n, head, narrow(mine + 1))
    known2, known3 = _known(known, n, head, narrow(mine + 2)), _known(known, n, head, narrow(mine + 3))

    total = zeros(16)
    key, end = narrow(0), keys_seen(seen, n, narrow(min(query + SIDE, n.queries) - 1))
    while key < end:
        there = narrow(min(SIDE, end - key))
        ks = Rows(k.address, narrow(k_at + key * k.row), k.row, there)
        stage_values(to, 2 * TILE, ks, column, narrow(n.size - column), n.wide)
        ss = scores(
            to, row_at, key_at, Rows(q.address, q_at, q.row, narrow(n.queries - query)), ks, n.size, n.wide
        )
        xs = Rows(signal.address, signal_at, signal.row, narrow(n.queries - query))
        ws = Rows(v.address, narrow(v_at + key * v.row), v.row, there)
        dps = scores(to, row_at, key_at, xs, ws, n.values, n.wide)
        if dropped.on:
            draw_factors(memory, STRIDE, 4, dropped, b, h, query, key)
            barrier()
        j = narrow(key + lane)
        _weigh(cell, ss[0], ss[1], dps[0], dps[1], seen, n, mask_at, mine, j, known0, dropped.on)
        i, at = narrow(mine + 1), narrow(cell + STRIDE)
        _weigh(at, ss[2], ss[3], dps[2], dps[3], seen, n, mask_at, i, j, known1, dropped.on)
        i, at = narrow(mine + 2), narrow(cell + 2 * STRIDE)
        _weigh(at, ss[4], ss[5], dps[4], dps[5], seen, n, mask_at, i, j, known2, dropped.on)
        i, at = narrow(mine + 3), narrow(cell + 3 * STRIDE)
        _weigh(at, ss[6], ss[7], dps[6], dps[7], seen, n, mask_at, i, j, known3, dropped.on)
        barrier()
        total = add_result(total, row_at, value_at, there)
        barrier()
        key = narrow(key + SIDE)

    column = narrow(column + 4 * lane)
    scale = np.float32(seen.scale)
    out = dq.address + 4 * (b * dq.example + h * dq.head + mine * dq.row + column)
    total = times_rows(total, scale, scale, scale, scale)
    store_rows(out, dq.row, n.queries - mine, n.size - column, n.wide, total)


@device_function
def _weigh(
    at: int,
    product0: np.float32,
    product1: np.float32,
    dp0: np.float32,
    dp1: np.float32,
    seen: Seen,
    n: Sizes,
    mask_at: int,
    query: int,
    key: int,
    known: Query,
    drops: int,
) -> None:
    """Write dS of a query and a thread's two keys to shared memory."""
    s0 = score(product0, seen, n, mask_at, query, key)
    s1 = score(product1, seen, n, mask_at, query, narrow(key + LANES))
    m0, m1 = _factor(at, drops), _factor(at + 4 * LANES, drops)
    shared_store_f32(at, _slope(s0, _probability(s0, known), m0 * dp0, known))
    shared_store_f32(at + 4 * LANES, _slope(s1, _probability(s1, known), m1 * dp1, known))


@device_function
def _weigh_key(
    at: int,
    product: np.float32,
    dp: np.float32,
    seen: Seen,
    n: Sizes,
    mask_at: int,
    query: int,
    key: int,
    known: Query,
    drops: int,
) -> None:
    """Write p m, and in the next tile dS, of a query and a key to shared memory."""
    s = score(product, seen, n, mask_at, query, key)
    p, m = _probability(s, known), _factor(at, drops)
    shared_store_f32(at, p * m)
    shared_store_f32(at + TILE, _slope(s, p, m * dp, known))


@device_function
def _weigh_keys(
    at: int,
    products: Floats,
    dps: Floats,
    seen: Seen,
    n: Sizes,
    mask_at: int,
    head: int,
    query: int,
    key: int,
    known: Known,
    drops: int,
) -> None:
    """Do so for a query and a thread's four keys, from key `key` on; `head` counts the heads of all examples."""
    one = _known(known, n, head, query)
    _weigh_key(at, products[0], dps[0], seen, n, mask_at, query, key, one, drops)
    key = narrow(key + 1)
    _weigh_key(narrow(at + STRIDE), products[1], dps[1], seen, n, mask_at, query, key, one, drops)
    key = narrow(key + 1)
    _weigh_key(narrow(at + 2 * STRIDE), products[2], dps[2], seen, n, mask_at, query, key, one, drops)
    key = narrow(key + 1)
    _weigh_key(narrow(at + 3 * STRIDE), products[3], dps[3], seen, n, mask_at, query, key, one, drops)


@kernel("attention-keys", threads=THREADS, resident=4, opcodes=("FFMA.FTZ", "LDGSTS"))
def to_keys(
    q: Operand,
    k: Operand,
    v: Operand,
    signal: Operand,
    dk: Operand,
    dv: Operand,
    n: Sizes,
    seen: Seen,
    dropped: Dropped,
    known: Known,
    tiles: Size,
) -> None:
    """Write dk = scale dSᵀ q and dv = (p m)ᵀ signal, added up over the heads that read these keys."""
    memory = shared(_OF_KEYS)
    rest, tile = divide(block_x(), tiles)
    b, g = divide(rest, divide(n.heads, n.shared)[0])
    key, column = narrow(tile * SIDE), narrow(block_z() * COLUMNS)
    team, lane = narrow(thread() // LANES), narrow(thread() % LANES)
    mine = narrow(key + 4 * team)

    to = own_place(memory)
    ks = Rows(k.address, start(k, to, b, g, key), k.row, narrow(n.keys - key))
    vs = Rows(v.address, start(v, to, b, g, key), v.row, narrow(n.keys - key))
    row_at = narrow(memory + 4 * team * STRIDE)
    query_at = narrow(memory + TILE + lane * STRIDE)
    value_at = narrow(memory + 2 * TILE + 16 * lane)
    cell = narrow(row_at + 4 * lane)
    # The first query that sees one of these keys, and the tiles of queries from there on, of all heads.
    first = narrow(max(0, key - n.keys + n.queries) if seen.causal else 0)
    across = narrow((n.queries - first + SIDE - 1) >> 5)

    to_k, to_v = zeros(16), zeros(16)
    step = narrow(n.shared * across)
    while step > 0:
        # Downwards: there is one number less to keep.
        step = narrow(step - 1)
        which, place = divide(step, across)
        h, query = g * n.shared + which, narrow(first + place * SIDE)
        there = narrow(min(SIDE, n.queries - query))
        qs = Rows(q.address, start(q, to, b, h, query), q.row, there)
        signals = Rows(signal.address, start(signal, to, b, h, query), signal.row, there)
        stage_values(to, 2 * TILE, signals, column, narrow(n.values - column), n.wide)
        stage_values(to, 2 * TILE + VALUES, qs, column, narrow(n.size - column), n.wide)
        ss = scores(to, row_at, query_at, ks, qs, n.size, n.wide)
        dps = scores(to, row_at, query_at, vs, signals, n.values, n.wide)
        if dropped.on:
            draw_factors(memory, 4, STRIDE, dropped, b, h, query, key)
            barrier()
        mask_at = b * seen.example + h * seen.head
        i, head = narrow(query + lane), narrow(b * n.heads + h)
        products, slopes = (ss[0], ss[2], ss[4], ss[6]), (dps[0], dps[2], dps[4], dps[6])
        _weigh_keys(cell, products, slopes, seen, n, mask_at, head, i, mine, known, dropped.on)
        products, slopes = (ss[1], ss[3], ss[5], ss[7]), (dps[1], dps[3], dps[5], dps[7])
        i, at = narrow(i + LANES), narrow(cell + 4 * LANES)
        _weigh_keys(at, products, slopes, seen, n, mask_at, head, i, mine, known, dropped.on)
        barrier()
        to_v = add_result(to_v, row_at, value_at, there)
        to_k = add_result(to_k, row_at + TILE, value_at + VALUES, there)
        barrier()

    column = narrow(column + 4 * lane)
    scale = np.float32(seen.scale)
    to_k = times_rows(to_k, scale, scale, scale, scale)
    out = dk.address + 4 * (b * dk.example + g * dk.head + mine * dk.row + column)
    store_rows(out, dk.row, n.keys - mine, n.size - column, n.wide, to_k)
    out = dv.address + 4 * (b * dv.example + g * dv.head + mine * dv.row + column)
    store_rows(out, dv.row, n.keys - mine, n.values - column, n.wide, to_v)
