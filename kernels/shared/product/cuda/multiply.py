"""How a block multiplies the tiles that lie in a stage of shared memory, and puts its sums there at the end.

On ordinary cores a thread sums some rows of four columns; on tensor cores a warp sums 32 x 16, spread over its lanes as
``tensor_fragments`` says.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.primitives import (
    Floats,
    Size,
    fma_outer,
    mma_bf16,
    mma_tf32,
    narrow,
    shared_columns,
    shared_load_f32x4,
    shared_store_fragments,
    shared_store_rows,
    thread,
)
from fgnumba.kernels.rules.directions.cuda import Words, pick, sign_words
from fgnumba.kernels.rules.philox import LEFT
from fgnumba.kernels.shared.product.cuda import tensor_fragments
from fgnumba.kernels.shared.product.cuda.block_tile import THREADS, Plan
from fgnumba.kernels.shared.product.cuda.entries import signed_sum
from fgnumba.kernels.shared.product.cuda.pixels import swizzled


def dotting(plan: Plan) -> Callable[..., Any]:
    """Return the device function that sums x · u of a rank-1 direction over a step.

    Parameters
    ----------
    plan : Plan
        The kernel's numbers.

    Returns
    -------
    callable
        Takes the stream, the counter, the step's first element of K, the words of signs drawn last, the sum so far and
        the address of the stage; returns words and sum.
    """
    parts, chunks, swizzled_rows = plan.parts, plan.chunks, plan.swizzled_rows
    dot_chunks = chunks // parts

    @device_function
    def dot(
        stream: int, c2: int, k0: int, left_words: Words, total: np.float32, stage: int
    ) -> tuple[Words, np.float32]:
        """Return the words of signs, and x · u of a row's part after a step."""
        row, part = thread() // parts, thread() % parts
        if k0 & 127 == 0:
            left_words = sign_words(stream, k0 >> 7, 0, LEFT, c2)
        word = pick(left_words, (k0 >> 5) & 3)
        word = np.uint32(word >> np.uint32((k0 & 31) + 4 * part * dot_chunks))
        for i in range(dot_chunks):
            chunk = part * dot_chunks + i
            xs = shared_load_f32x4(stage + swizzled(row, chunk, chunks, swizzled_rows))
            total = signed_sum(total, xs, word, 4 * i)
        return left_words, total

    return dot


class Cell(NamedTuple):
    """The sums of a thread: `high` rows of four columns, over its team's share of K.

    Parameters
    ----------
    team : int
        Number of the thread's team.
    row, column : int
        Numbers of its rows, and of its columns, among those of the block's tile.
    place : Size
        Place in a stage of the team's first elements of W.
    """

    team: int
    row: int
    column: int
    place: Size


def multiplying(plan: Plan) -> tuple[Callable[..., Any], ...]:
    """Return the device functions `own`, `multiply` and `store` of a kernel on ordinary cores.

    Parameters
    ----------
    plan : Plan
        The kernel's numbers.

    Returns
    -------
    tuple of callable
        `own` returns what the thread sums, a :class:`Cell`. `multiply` adds a step's products to the sums of the primal
        and the tangent. `store` writes them to shared memory, where they belong to a half of the tile's rows.
    """
    (primal, tangent, entries), tile = plan.sums, plan.tile
    columns, depth, teams, w_width = tile.columns, tile.depth, tile.teams, tile.width
    chunks, quads, high, swizzled_rows = plan.chunks, plan.quads, plan.high, plan.swizzled_rows
    at_dx, at_w, w_bytes, at_dz, half_rows = plan.at_dx, plan.at_w, plan.w_bytes, plan.at_dz, plan.half_rows
    any_tangent, team_chunks = plan.any_tangent, chunks // teams

    @device_function
    def own() -> Cell:
        """Return what the thread sums."""
        team, member = thread() // (THREADS // teams), thread() % (THREADS // teams)
        row, column = member // quads, member % quads
        return Cell(team, row, column, narrow(at_w + 4 * team * team_chunks * w_width + 16 * column))

    @device_function
    def multiply(cell: Cell, total: Floats, d_total: Floats, stage: int) -> tuple[Floats, Floats]:
        """Return the sums of the primal and the tangent after a step."""
        if primal or any_tangent:
            chunk = narrow(cell.team * team_chunks)
            w_at = stage + cell.place
            while chunk < (cell.team + 1) * team_chunks:
                xs_at = stage + swizzled(cell.row * high, chunk, chunks, swizzled_rows)
                x0, x1, x2, x3 = shared_columns(xs_at, 4 * depth, high)
                w0, w1 = shared_load_f32x4(w_at), shared_load_f32x4(w_at + w_width)
                w2, w3 = shared_load_f32x4(w_at + 2 * w_width), shared_load_f32x4(w_at + 3 * w_width)
                if primal:
                    total = fma_outer(fma_outer(total, x0, w0), x1, w1)
                    total = fma_outer(fma_outer(total, x2, w2), x3, w3)
                if entries:
                    v_at = w_at + w_bytes
                    v0, v1 = shared_load_f32x4(v_at), shared_load_f32x4(v_at + w_width)
                    v2, v3 = shared_load_f32x4(v_at + 2 * w_width), shared_load_f32x4(v_at + 3 * w_width)
                    d_total = fma_outer(fma_outer(d_total, x0, v0), x1, v1)
                    d_total = fma_outer(fma_outer(d_total, x2, v2), x3, v3)
                if tangent:
                    x0, x1, x2, x3 = shared_columns(xs_at + at_dx, 4 * depth, high)
                    d_total = fma_outer(fma_outer(d_total, x0, w0), x1, w1)
                    d_total = fma_outer(fma_outer(d_total, x2, w2), x3, w3)
                chunk, w_at = narrow(chunk + 1), w_at + 4 * w_width
        return total, d_total

    @device_function
    def store(cell: Cell, total: Floats, d_total: Floats, half: int, at: int) -> None:
        """Write the sums to shared memory, if they belong to this half of the tile's rows."""
        first = cell.row * high
        if first // half_rows == half:
            row = cell.team * half_rows + first - half * half_rows
            place = at + 4 * (row * columns + 4 * cell.column)
            if primal:
                shared_store_rows(place, 4 * columns, total)
            if any_tangent:
                shared_store_rows(place + at_dz, 4 * columns, d_total)

    return own, multiply, store


class Fragment(NamedTuple):
    """The sums of a lane on tensor cores.

    Parameters
    ----------
    place_x, place_w : Size
        Places in a stage of its first elements of X and of W.
    """

    place_x: Size
    place_w: Size


def multiplying_on_tensor_cores(plan: Plan) -> tuple[Callable[..., Any], ...]:
    """Return the device functions `own`, `multiply` and `store` of a kernel on tensor cores; see `multiplying`."""
    (primal, tangent, entries), tile = plan.sums, plan.tile
    columns, w_width, tf32 = tile.columns, tile.width, plan.precision == "tf32"
    at_dx, at_w, w_bytes, at_dz, any_tangent = (
        plan.at_dx,
        plan.at_w,
        plan.w_bytes,
        plan.at_dz,
        plan.any_tangent,
    )
    # Of a step: products, and the bytes between the two elements that a lane's words begin at.
    if tf32:
        products, beside, mma = 2, 16, mma_tf32
        rows_of, columns_of = tensor_fragments.rows_tf32, tensor_fragments.columns_tf32
    else:
        products, beside, mma = 1, 32, mma_bf16
        rows_of, columns_of = tensor_fragments.rows_bf16, tensor_fragments.columns_bf16
    sixteen_rows = tensor_fragments.SIXTEEN_ROWS

    @device_function
    def own() -> Fragment:
        """Return what the lane sums."""
        warp, lane = thread() // 32, thread() % 32
        row, column = 32 * (warp // 4) + lane // 4, 16 * (warp % 4) + lane // 4
        k = lane % 4 if tf32 else 2 * (lane % 4)
        return Fragment(narrow(tensor_fragments.place(row, k)), narrow(at_w + k * w_width + 4 * column))

    @device_function
    def multiply(fragment: Fragment, total: Floats, d_total: Floats, stage: int) -> tuple[Floats, Floats]:
        """Return the sums of the primal and the tangent after a step."""
        for i in range(products):
            w_at = stage + fragment.place_w + 8 * i * w_width
            at_0 = stage + (fragment.place_x ^ 32 * i)
            beside_0 = stage + (fragment.place_x ^ 32 * i + beside)
            at_1, beside_1 = at_0 + sixteen_rows, beside_0 + sixteen_rows
            ws = columns_of(w_at, w_width)
            xs = rows_of(at_0, beside_0) + rows_of(at_1, beside_1)
            if primal:
                total = mma(total, xs, ws)
            if entries:
                d_total = mma(d_total, xs, columns_of(w_at + w_bytes, w_width))
            if tangent:
                dx_0 = rows_of(at_0 + at_dx, beside_0 + at_dx)
                d_total = mma(d_total, dx_0 + rows_of(at_1 + at_dx, beside_1 + at_dx), ws)
        return total, d_total

    @device_function
    def store(fragment: Fragment, total: Floats, d_total: Floats, half: int, at: int) -> None:
        """Write the sums to shared memory, if they belong to this half of the tile's rows."""
        warp, lane = thread() // 32, thread() % 32
        row, column = 32 * (warp // 4) + lane // 4, 16 * (warp % 4) + 2 * (lane % 4)
        place = at + 4 * (row * columns + column)
        if primal:
            shared_store_fragments(place, 4 * columns, 2, total)
        if any_tangent:
            shared_store_fragments(place + at_dz, 4 * columns, 2, d_total)

    return own, multiply, store
