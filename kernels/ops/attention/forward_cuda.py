"""The kernels of attention on a GPU: one for the primal alone, one for the primal and a tangent.

A block owns 32 queries of a head and one direction. It goes once through the keys and values that its queries see, 32
at a time, and keeps for each query the maximum of its scores so far, the sums Σ p and Σ p dS, and, in registers, the
sums Σ p m v and Σ p m (dv + dS v). Where the maximum grows, all of them are multiplied by the same factor.
"""

from typing import NamedTuple

import numpy as np

from fgnumba.kernels.cuda.kernel import Kernel, device_function, kernel
from fgnumba.kernels.cuda.primitives import (
    Address,
    Floats,
    Size,
    barrier,
    block_x,
    block_y,
    block_z,
    commit_copies,
    divide,
    fma_outer,
    narrow,
    shared,
    shared_columns,
    shared_load_f32,
    shared_store_f32,
    store_f32,
    thread,
    wait_copies,
    zeros,
)
from fgnumba.kernels.ops.attention.loads_cuda import (
    COLUMNS,
    SIDE,
    STRIDE,
    THREADS,
    TILE,
    VALUES,
    Operand,
    Place,
    Rows,
    Sizes,
    own_place,
    stage_factors,
    stage_values,
    start,
)
from fgnumba.kernels.ops.attention.scores_cuda import Dropped, Seen, draw_factors, keys_seen, score
from fgnumba.kernels.ops.attention.tiles_cuda import (
    LANES,
    add_result,
    less_rows,
    pairs,
    scores,
    store_rows,
    team_max,
    team_sum,
    times_rows,
)
from fgnumba.kernels.rules.elementary import exp, log

_ZERO, _ONE, _NEGATIVE_INF = np.float32(0), np.float32(1), np.float32(-np.inf)


class Row(NamedTuple):
    """What a thread knows of a query.

    Parameters
    ----------
    top : float32
        Maximum of its scores so far.
    total, moved : float32
        The thread's terms of Σ p and of Σ p dS, with p = exp(S - top).
    factor : float32
        What sums over earlier keys have been multiplied by, since the maximum grew.
    """

    top: np.float32
    total: np.float32
    moved: np.float32
    factor: np.float32


class Four(NamedTuple):
    """What a thread knows of its four queries.

    Parameters
    ----------
    a, b, c, d : Row
        One after the other.
    """

    a: Row
    b: Row
    c: Row
    d: Row


@device_function
def _over(total: np.float32) -> np.float32:
    """Return 1 / Σ p, or 0 where no key was seen."""
    return _ONE / total if total > _ZERO else _ZERO


@device_function
def _team_sums(rows: Four) -> Floats:
    """Return Σ p of four queries, of which each thread of a team has some terms, and then Σ p dS."""
    return (
        team_sum(rows.a.total),
        team_sum(rows.b.total),
        team_sum(rows.c.total),
        team_sum(rows.d.total),
        team_sum(rows.a.moved),
        team_sum(rows.b.moved),
        team_sum(rows.c.moved),
        team_sum(rows.d.moved),
    )


@device_function
def _store_sums(at: int, left: int, rows: Four, totals: Floats) -> None:
    """Write the logarithms of the sums of exponentials of the first `left` of four queries."""
    if left > 0:
        store_f32(at, rows.a.top + log(totals[0]))
    if left > 1:
        store_f32(at + 4, rows.b.top + log(totals[1]))
    if left > 2:
        store_f32(at + 8, rows.c.top + log(totals[2]))
    if left > 3:
        store_f32(at + 12, rows.d.top + log(totals[3]))


@device_function
def _both_scores(
    to: Place, x_at: int, w_at: int, x: Rows, w: Rows, dx_apart: int, dw_apart: int, size: int, wide: int
) -> tuple[Floats, Floats]:
    """Return a thread's products x wᵀ and dx wᵀ + x dwᵀ of a tile; `apart` are bytes to tangents, 0: there are none.

    The tiles in shared memory are those of x, dx, w and dw.
    """
    total, d_total, c = zeros(8), zeros(8), narrow(0)
    while c < size:
        left = narrow(size - c)
        stage_factors(to, 0, x, c, left, wide)
        stage_factors(to, 2 * TILE, w, c, left, wide)
        if dx_apart:
            dx = Rows(x.address + dx_apart, x.at, x.row, x.number)
            stage_factors(to, TILE, dx, c, left, wide)
        if dw_apart:
            dw = Rows(w.address + dw_apart, w.at, w.row, w.number)
            stage_factors(to, 3 * TILE, dw, c, left, wide)
        commit_copies()
        wait_copies(0)
        barrier()
        there, k = narrow(min(SIDE, left)), narrow(0)
        while k < there:
            x0, x1, x2, x3 = shared_columns(x_at + 4 * k, STRIDE, 4)
            w0, w1, w2, w3 = pairs(w_at + 4 * k)
            total = fma_outer(fma_outer(total, x0, w0), x1, w1)
            total = fma_outer(fma_outer(total, x2, w2), x3, w3)
            if dw_apart:
                v0, v1, v2, v3 = pairs(w_at + TILE + 4 * k)
                d_total = fma_outer(fma_outer(d_total, x0, v0), x1, v1)
                d_total = fma_outer(fma_outer(d_total, x2, v2), x3, v3)
            if dx_apart:
                x0, x1, x2, x3 = shared_columns(x_at + TILE + 4 * k, STRIDE, 4)
                d_total = fma_outer(fma_outer(d_total, x0, w0), x1, w1)
                d_total = fma_outer(fma_outer(d_total, x2, w2), x3, w3)
            k = narrow(k + 4)
        barrier()
        c = narrow(c + SIDE)
    return total, d_total


def _kernel(name: str, tangent: bool, resident: int) -> Kernel:
    # In shared memory: queries, keys and values, each beside its tangent. What follows from scores lies where the
    # queries were.
    each = 1 + tangent
    at_keys, at_values = each * TILE, 2 * each * TILE
    nbytes = at_values + each * VALUES

    @device_function
    def weigh(
        row: Row, at: int, s0: np.float32, s1: np.float32, d0: np.float32, d1: np.float32, drops: int
    ) -> Row:
        """Write p m and p m dS of a query and a thread's two keys to shared memory; return what is known now."""
        top = team_max(s0 if s0 > s1 else s1)
        top = row.top if row.top > top else top
        # Where no key has been seen, all scores are -inf, and so is the maximum.
        base = top if top > _NEGATIVE_INF else _ZERO
        factor, p0, p1 = exp(row.top - base), exp(s0 - base), exp(s1 - base)
        total, moved = row.total * factor + (p0 + p1), row.moved
        m0, m1 = _ONE, _ONE
        if drops:
            m0, m1 = shared_load_f32(at), shared_load_f32(at + 4 * LANES)
        if tangent:
            # Where there is no key, shared memory held anything.
            d0 = p0 * d0 if s0 > _NEGATIVE_INF else _ZERO
            d1 = p1 * d1 if s1 > _NEGATIVE_INF else _ZERO
            moved = moved * factor + (d0 + d1)
            shared_store_f32(at + TILE, d0 * m0)
            shared_store_f32(at + TILE + 4 * LANES, d1 * m1)
        shared_store_f32(at, p0 * m0)
        shared_store_f32(at + 4 * LANES, p1 * m1)
        return Row(top, total, moved, factor)

    @device_function
    def weigh_rows(
        rows: Four,
        at: int,
        ss: Floats,
        dss: Floats,
        seen: Seen,
        n: Sizes,
        mask_at: int,
        i: int,
        j: int,
        drops: int,
    ) -> Four:
        """Do so for a thread's four queries, from query `i` on, and its keys `j` and `j` + 16."""
        a, b, c, d = rows
        scale, j1 = np.float32(seen.scale), narrow(j + LANES)
        s0, s1 = score(ss[0], seen, n, mask_at, i, j), score(ss[1], seen, n, mask_at, i, j1)
        a = weigh(a, at, s0, s1, scale * dss[0], scale * dss[1], drops)
        i = narrow(i + 1)
        s0, s1 = score(ss[2], seen, n, mask_at, i, j), score(ss[3], seen, n, mask_at, i, j1)
        b = weigh(b, at + STRIDE, s0, s1, scale * dss[2], scale * dss[3], drops)
        i = narrow(i + 1)
        s0, s1 = score(ss[4], seen, n, mask_at, i, j), score(ss[5], seen, n, mask_at, i, j1)
        c = weigh(c, at + 2 * STRIDE, s0, s1, scale * dss[4], scale * dss[5], drops)
        i = narrow(i + 1)
        s0, s1 = score(ss[6], seen, n, mask_at, i, j), score(ss[7], seen, n, mask_at, i, j1)
        d = weigh(d, at + 3 * STRIDE, s0, s1, scale * dss[6], scale * dss[7], drops)
        return Four(a, b, c, d)

    @kernel(name, threads=THREADS, resident=resident, opcodes=("FFMA.FTZ", "LDGSTS"))
    def attend(
        q: Operand,
        k: Operand,
        v: Operand,
        y: Operand,
        n: Sizes,
        seen: Seen,
        dropped: Dropped,
        tiles: Size,
        log_sum_exp: Address,
    ) -> None:
        memory = shared(nbytes)
        head, tile = divide(block_x(), tiles)
        b, h = divide(head, n.heads)
        g, _ = divide(h, n.shared)
        query, column, t = narrow(tile * SIDE), narrow(block_z() * COLUMNS), block_y() + 1
        team, lane = narrow(thread() // LANES), narrow(thread() % LANES)
        mine = narrow(query + 4 * team)

        to = own_place(memory)
        q_at, k_at, v_at = start(q, to, b, h, query), start(k, to, b, g, 0), start(v, to, b, g, 0)
        mask_at = b * seen.example + h * seen.head
        row_at = narrow(memory + 4 * team * STRIDE)
        key_at = narrow(memory + at_keys + lane * STRIDE)
        value_at = narrow(memory + at_values + 16 * lane)

        row = Row(_NEGATIVE_INF, _ZERO, _ZERO, _ONE)
        rows = Four(row, row, row, row)
        ys, dys = zeros(16), zeros(16)
        key, end = narrow(0), keys_seen(seen, n, narrow(min(query + SIDE, n.queries) - 1))
        while key < end:
            there, left = narrow(min(SIDE, end - key)), narrow(n.values - column)
            qs = Rows(q.address, q_at, q.row, narrow(n.queries - query))
            ks = Rows(k.address, narrow(k_at + key * k.row), k.row, there)
            vs = Rows(v.address, narrow(v_at + key * v.row), v.row, there)
            stage_values(to, at_values, vs, column, left, n.wide)
            if tangent:
                if v.tangent:
                    dvs = Rows(vs.address + 4 * t * v.block, vs.at, v.row, there)
                    stage_values(to, at_values + VALUES, dvs, column, left, n.wide)
                dq_apart, dk_apart = 4 * t * q.block * q.tangent, 4 * t * k.block * k.tangent
                ss, dss = _both_scores(to, row_at, key_at, qs, ks, dq_apart, dk_apart, n.size, n.wide)
            else:
                ss = scores(to, row_at, key_at, qs, ks, n.size, n.wide)
                dss = ss
            if dropped.on:
                draw_factors(memory, STRIDE, 4, dropped, b, h, query, key)
                barrier()
            at = narrow(row_at + 4 * lane)
            rows = weigh_rows(rows, at, ss, dss, seen, n, mask_at, mine, narrow(key + lane), dropped.on)
            barrier()
            ys = times_rows(ys, rows.a.factor, rows.b.factor, rows.c.factor, rows.d.factor)
            ys = add_result(ys, row_at, value_at, there)
            if tangent:
                dys = times_rows(dys, rows.a.factor, rows.b.factor, rows.c.factor, rows.d.factor)
                if q.tangent + k.tangent:
                    dys = add_result(dys, row_at + TILE, value_at, there)
                if v.tangent:
                    dys = add_result(dys, row_at, value_at + VALUES, there)
            barrier()
            key = narrow(key + SIDE)

        sums = _team_sums(rows)
        over_a, over_b, over_c, over_d = _over(sums[0]), _over(sums[1]), _over(sums[2]), _over(sums[3])
        ys = times_rows(ys, over_a, over_b, over_c, over_d)
        column = narrow(column + 4 * lane)
        there, left = n.queries - mine, n.values - column
        out = y.address + 4 * (b * y.example + h * y.head + mine * y.row + column)
        if t == 1:
            store_rows(out, y.row, there, left, n.wide, ys)
            if log_sum_exp and column == 0:
                _store_sums(log_sum_exp + 4 * (head * n.queries + mine), there, rows, sums)
        if tangent:
            dys = times_rows(dys, over_a, over_b, over_c, over_d)
            dys = less_rows(dys, ys, sums[4] * over_a, sums[5] * over_b, sums[6] * over_c, sums[7] * over_d)
            store_rows(out + 4 * t * y.block, y.row, there, left, n.wide, dys)

    return attend


PRIMAL = _kernel("attention", False, 4)
DUAL = _kernel("attention-dual", True, 4)
