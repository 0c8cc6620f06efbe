"""The tile of dense layers and convolutions: primal and tangent of an implicit matrix product in one pass.

    z[m, n]  = Σ_k X[m, k] W[k, n] + b[n]                       y  = a(z)
    dz[m, n] = Σ_k dX[m, k] W[k, n] + X[m, k] V[k, n] + c[n]    dy = a'(z) dz

Row m is an example, or a pixel of a convolution's output; column k of X is then an element of the pixels under the
kernel, read where it lies in the image: no matrix of patches exists, and a dense layer is a convolution of an image of
one pixel. a is (leaky) relu or the identity, a(z) = z for z > 0, else alpha z; others are an operation after it.

A block of 256 threads computes a tile. X, dX, W and V pass through shared memory, copied asynchronously one or two
steps of K ahead, or, where V is drawn, written there as it is drawn. Rank-1 directions need no V: x V = (x · u) wᵀ, and
x · u is summed from the tile of X that is there anyway, a few of its elements a thread.

Where an element of X lies is computed anew only where K goes on to another tap of the kernel: within one, as in all of
a dense layer, addresses go on by a step. What the loop over K counts has 32 bits: half the instructions of 64.

Kernels differ in what they sum (``Sums``), their precision and their tile, and in whether X is loaded 16 bytes at once.
Source: arXiv 2202.08587, section 3; rank-1 signs have E[v vᵀ] = I.
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import Kernel
from fgnumba.kernels.cuda.layout import DualImages
from fgnumba.kernels.cuda.primitives import (
    Address,
    Real,
    Size,
    barrier,
    block_x,
    block_z,
    commit_copies,
    copy4,
    copy16,
    divide,
    fma_outer,
    load_f32x4,
    mma_bf16,
    mma_tf32,
    narrow,
    shared,
    shared_columns,
    shared_load_f32x4,
    shared_store_f32,
    shared_store_fragments,
    shared_store_rows,
    thread,
    wait_copies,
    zeros,
)
from fgnumba.kernels.rules.directions import EXPLICIT, RANK1
from fgnumba.kernels.rules.directions.cuda import pick, sign_words
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT, LEFT, RIGHT
from fgnumba.kernels.shared.product.cuda import epilogue, tensor_fragments
from fgnumba.kernels.shared.product.cuda.block_tile import LARGE, SMALL, TENSOR, THREADS, Sums, Tile
from fgnumba.kernels.shared.product.cuda.entries import draw_column, signed_sum
from fgnumba.kernels.shared.product.cuda.operands import Directions, PackedWeights
from fgnumba.kernels.shared.product.cuda.pixels import Taps, next_taps, origin, swizzled, within

__all__ = ["KERNELS", "LARGE", "SMALL", "TENSOR", "Sums", "Tile"]


def _tile_kernel(tile: Tile, precision: str, sums: Sums, wide: bool) -> Kernel:
    """Return the kernel of a combination.

    Parameters
    ----------
    wide : X is loaded 16 bytes at a time: its channels are a multiple of 4, or there is one tap.
    """
    primal, tangent, entries = sums
    assert tile.depth * tile.columns // 4 == THREADS
    tensor, exact = precision != "float32", precision == "float32"
    rows, columns, depth, teams, stages = tile.rows, tile.columns, tile.depth, tile.teams, tile.stages
    chunks, quads = depth // 4, columns // 4
    loads = rows * chunks // THREADS  # of 16 bytes of X by a thread and step
    singles = rows * depth // THREADS  # of 4 bytes
    w_width = tile.width
    x_bytes, w_bytes = 4 * rows * depth, depth * w_width
    at_dx = x_bytes
    at_w = at_dx + x_bytes * tangent
    at_v = at_w + w_bytes
    stage_bytes = at_v + w_bytes * entries
    # A thread's sums: `high` rows of four columns.
    high = rows // 16 if teams == 1 else 4
    own = 4 * high
    under_way, ahead, last_stage = stages - 2, (stages - 1) * depth, (stages - 1) * stage_bytes
    # A group of rows that one swizzle serves: those that a thread, or a pair of lanes, reads at once.
    swizzled_rows = 2 if tensor else high
    # Of a step on tensor cores: products, and the bytes between the two elements that a lane's words begin at.
    if precision == "tf32":
        products, beside, multiply = 2, 16, mma_tf32
        rows_of, columns_of = tensor_fragments.rows_tf32, tensor_fragments.columns_tf32
    else:
        products, beside, multiply = 1, 32, mma_bf16
        rows_of, columns_of = tensor_fragments.rows_bf16, tensor_fragments.columns_bf16
    parts = THREADS // rows  # threads that share the dot of a row
    dot_chunks = chunks // parts
    team_chunks = chunks // teams
    halves = 2 if teams == 1 and rows == 128 else 1
    half_rows = rows // halves
    any_tangent = tangent or entries
    at_dz = 4 * teams * half_rows * columns * primal
    at_dots = at_dz + 4 * teams * half_rows * columns * any_tangent
    shared_bytes = max(stages * stage_bytes, at_dots + 4 * rows * parts)
    visits = half_rows * quads // THREADS

    def product(
        x: DualImages,
        dx: Address,
        y: DualImages,
        dy: Address,
        weights: PackedWeights,
        directions: Directions,
        taps: Taps,
        v_block: Size,
        v_bias_block: Size,
        first: Size,
        has_dy: Size,
        m_rows: Size,
        outputs: Size,
        column_blocks: Size,
        group_tiles: Size,
        channels: Size,
        wide_stores: Size,
        alpha: Real,
    ) -> None:
        at = shared(shared_bytes)
        t = thread()
        row_tile, column_block = divide(block_x(), column_blocks)
        group, column_tile = divide(column_block, group_tiles)
        bn, bm = column_tile * columns, row_tile * rows
        slot = block_z()
        c2 = ((first + slot) << DIRECTION_SHIFT) + directions.parameter
        x_from = x.address + 4 * group * channels
        dx_apart = dx + 4 * slot * x.block - x.address

        # What this thread loads of X: element k of rows that lie some rows apart, `left_k` elements before the end.
        if wide:
            row_loaded, k_loaded = t // chunks, 4 * (t % chunks)
        else:
            row_loaded, k_loaded = t // depth, t % depth
        left_k = narrow(weights.rows - k_loaded)
        tap, first_channel = divide(k_loaded, channels)
        first_row, first_column = divide(tap, taps.across)
        channel, tap_row, tap_column = narrow(first_channel), narrow(first_row), narrow(first_column)
        m_0, m_1 = narrow(bm + row_loaded), narrow(bm + row_loaded + rows // 2)
        base_0, top_0, left_0 = origin(m_0, taps, x.image)
        base_1, top_1, left_1 = origin(m_1, taps, x.image)
        place_0 = narrow(swizzled(row_loaded, k_loaded >> 2, chunks, swizzled_rows))
        place_1 = narrow(swizzled(row_loaded + rows // 2, k_loaded >> 2, chunks, swizzled_rows))
        x_0, x_1, here_0, here_1, moved = x.address, x.address, False, False, True
        # Of W and V: as many rows as a step has, four columns; of a V that is drawn, four rows of a column.
        k_w, n_w = t // quads, 4 * (t % quads)
        panel_w = (bn + n_w) >> 5
        w_from = weights.weight + 4 * (
            ((group * weights.panels + panel_w) * weights.rows + k_w) * 32 + ((bn + n_w) & 31)
        )
        v_apart = directions.v + 4 * slot * v_block - weights.weight
        left_w = narrow(weights.rows - k_w if panel_w < weights.panels else 0)
        place_w = narrow(at_w + k_w * w_width + 4 * n_w)
        quad, n_v = narrow(t // columns), t % columns
        panel_v, lane_v = group * weights.panels + ((bn + n_v) >> 5), (bn + n_v) & 31
        place_v = narrow(at_v + 4 * (t // columns) * w_width + 4 * n_v)

        # What this thread multiplies.
        team, member = t // (THREADS // teams), t % (THREADS // teams)
        tr, tc = member // quads, member % quads
        place_team = narrow(at_w + 4 * team * team_chunks * w_width + 16 * tc)
        total, d_total = zeros(own), zeros(own)
        warp, lane = t // 32, t % 32
        fragment_row, fragment_column = 32 * (warp // 4) + lane // 4, 16 * (warp % 4) + lane // 4
        fragment_k = lane % 4 if precision == "tf32" else 2 * (lane % 4)
        place_x = narrow(tensor_fragments.place(fragment_row, fragment_k))
        place_columns = narrow(at_w + fragment_k * w_width + 4 * fragment_column)
        dot, dot_row, dot_part = np.float32(0), t // parts, t % parts
        left_words = np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0)

        load_stage, read_stage = narrow(0), narrow(0)
        k0 = narrow(-ahead)
        while k0 < weights.rows:
            if k0 >= 0:
                # After this, the step's tiles are there, and those of the step before have been read by all.
                wait_copies(under_way)
                barrier()
            if k0 < narrow(weights.rows - ahead):
                stage = at + load_stage
                if wide:
                    if moved:
                        high_at, wide_at = tap_row * taps.dilation_high, tap_column * taps.dilation_wide
                        h, w = narrow(high_at + top_0), narrow(wide_at + left_0)
                        here_0 = m_0 < m_rows and within(h, w, taps)
                        x_0 = x_from + base_0 + 4 * (h * x.row + w * x.pixel + channel)
                        if loads == 2:
                            h, w = narrow(high_at + top_1), narrow(wide_at + left_1)
                            here_1 = m_1 < m_rows and within(h, w, taps)
                            x_1 = x_from + base_1 + 4 * (h * x.row + w * x.pixel + channel)
                    # Past the end of K less than 16 bytes are left where there is one tap alone.
                    room = narrow(4 * left_k if left_k < 4 else 16)
                    nbytes = room if here_0 and left_k > 0 else narrow(0)
                    copy16(stage + place_0, x_0, nbytes)
                    if tangent:
                        copy16(stage + place_0 + at_dx, x_0 + dx_apart, nbytes)
                    if loads == 2:
                        nbytes = room if here_1 and left_k > 0 else narrow(0)
                        copy16(stage + place_1, x_1, nbytes)
                        if tangent:
                            copy16(stage + place_1 + at_dx, x_1 + dx_apart, nbytes)
                    x_0, x_1 = x_0 + 4 * depth, x_1 + 4 * depth
                else:
                    for e in range(singles):
                        row = row_loaded + e * (THREADS // depth)
                        base, h, w = origin(bm + row, taps, x.image)
                        h, w = h + tap_row * taps.dilation_high, w + tap_column * taps.dilation_wide
                        here = left_k > 0 and bm + row < m_rows and within(h, w, taps)
                        source = x_from + base + 4 * (h * x.row + w * x.pixel + channel)
                        nbytes = narrow(4 if here else 0)
                        place = swizzled(row, k_loaded >> 2, chunks, swizzled_rows) + 4 * (k_loaded & 3)
                        copy4(stage + place, source, nbytes)
                        if tangent:
                            copy4(stage + place + at_dx, source + dx_apart, nbytes)
                channel, left_k = narrow(channel + depth), narrow(left_k - depth)
                moved = channel >= channels
                if moved:
                    channel, tap_column, tap_row = next_taps(
                        channel, tap_column, tap_row, channels, taps.across
                    )
                nbytes = narrow(16 if left_w > 0 else 0)
                if primal or tangent:
                    copy16(stage + place_w, w_from, nbytes)
                if entries:
                    if directions.kind == EXPLICIT:
                        copy16(stage + place_w + w_bytes, w_from + v_apart, nbytes)
                    else:
                        draw_column(stage + place_v, w_width, directions, quad, panel_v, lane_v, c2)
                w_from, left_w, quad = w_from + 128 * depth, narrow(left_w - depth), narrow(quad + chunks)
            commit_copies()
            load_stage = narrow(load_stage + stage_bytes if load_stage < last_stage else 0)
            if k0 >= 0:
                stage = at + read_stage
                read_stage = narrow(read_stage + stage_bytes if read_stage < last_stage else 0)
                if directions.kind == RANK1:
                    if k0 & 127 == 0:
                        left_words = sign_words(directions.stream, k0 >> 7, 0, LEFT, c2)
                    word = pick(left_words, (k0 >> 5) & 3)
                    word = np.uint32(word >> np.uint32((k0 & 31) + 4 * dot_part * dot_chunks))
                    for i in range(dot_chunks):
                        chunk = dot_part * dot_chunks + i
                        xs = shared_load_f32x4(stage + swizzled(dot_row, chunk, chunks, swizzled_rows))
                        dot = signed_sum(dot, xs, word, 4 * i)
                if exact and (primal or any_tangent):
                    chunk = narrow(team * team_chunks)
                    w_at = stage + place_team
                    while chunk < (team + 1) * team_chunks:
                        xs_at = stage + swizzled(tr * high, chunk, chunks, swizzled_rows)
                        x0, x1, x2, x3 = shared_columns(xs_at, 4 * depth, high)
                        w0, w1 = shared_load_f32x4(w_at), shared_load_f32x4(w_at + w_width)
                        w2, w3 = shared_load_f32x4(w_at + 2 * w_width), shared_load_f32x4(w_at + 3 * w_width)
                        if primal:
                            total = fma_outer(fma_outer(total, x0, w0), x1, w1)
                            total = fma_outer(fma_outer(total, x2, w2), x3, w3)
                        if entries:
                            v_at = w_at + w_bytes
                            v0, v1 = shared_load_f32x4(v_at), shared_load_f32x4(v_at + w_width)
                            v2, v3 = (
                                shared_load_f32x4(v_at + 2 * w_width),
                                shared_load_f32x4(v_at + 3 * w_width),
                            )
                            d_total = fma_outer(fma_outer(d_total, x0, v0), x1, v1)
                            d_total = fma_outer(fma_outer(d_total, x2, v2), x3, v3)
                        if tangent:
                            x0, x1, x2, x3 = shared_columns(xs_at + at_dx, 4 * depth, high)
                            d_total = fma_outer(fma_outer(d_total, x0, w0), x1, w1)
                            d_total = fma_outer(fma_outer(d_total, x2, w2), x3, w3)
                        chunk, w_at = narrow(chunk + 1), w_at + 4 * w_width
                if tensor:
                    for i in range(products):
                        w_at = stage + place_columns + 8 * i * w_width
                        at_0, beside_0 = stage + (place_x ^ 32 * i), stage + (place_x ^ 32 * i + beside)
                        at_1, beside_1 = (
                            at_0 + tensor_fragments.SIXTEEN_ROWS,
                            beside_0 + tensor_fragments.SIXTEEN_ROWS,
                        )
                        ws = columns_of(w_at, w_width)
                        xs = rows_of(at_0, beside_0) + rows_of(at_1, beside_1)
                        if primal:
                            total = multiply(total, xs, ws)
                        if entries:
                            d_total = multiply(d_total, xs, columns_of(w_at + w_bytes, w_width))
                        if tangent:
                            dx_0 = rows_of(at_0 + at_dx, beside_0 + at_dx)
                            d_total = multiply(d_total, dx_0 + rows_of(at_1 + at_dx, beside_1 + at_dx), ws)
            k0 = narrow(k0 + depth)
        # No copies are under way: the last steps began none.
        barrier()

        # The sums go through shared memory, so that a row's columns are written next to each other.
        n = bn + 4 * (t % quads)
        at_n = group * weights.panels * 32 + n
        biases, rights, shifts = zeros(4), zeros(4), zeros(4)
        if n < outputs:
            biases = load_f32x4(weights.bias + 4 * at_n)
            if has_dy and directions.kind == RANK1:
                rights = epilogue.four_signs_of_vector(directions.stream, at_n, RIGHT, c2)
            if has_dy and directions.bias_parameter >= 0:
                bias_c2 = ((first + slot) << DIRECTION_SHIFT) + directions.bias_parameter
                shifts = epilogue.four_of_bias(directions, slot * v_bias_block + at_n, at_n, bias_c2)
        shared_store_f32(at + at_dots + 4 * (dot_row * parts + dot_part), dot)
        for half in range(halves):
            if exact and tr * high // half_rows == half:
                place = at + 4 * ((team * half_rows + tr * high - half * half_rows) * columns + 4 * tc)
                if primal:
                    shared_store_rows(place, 4 * columns, total)
                if any_tangent:
                    shared_store_rows(place + at_dz, 4 * columns, d_total)
            if not exact:
                place = at + 4 * (fragment_row * columns + 16 * (warp % 4) + 2 * (lane % 4))
                if primal:
                    shared_store_fragments(place, 4 * columns, 2, total)
                if any_tangent:
                    shared_store_fragments(place + at_dz, 4 * columns, 2, d_total)
            barrier()
            for visit in range(visits):
                row = (t + visit * THREADS) // quads
                m = bm + half * half_rows + row
                if m < m_rows and n < outputs:
                    i, pixel = divide(m, taps.out_high * taps.out_wide)
                    h, w = divide(pixel, taps.out_wide)
                    to = 4 * (i * y.image + h * y.row + w * y.pixel + group * outputs + n)
                    count = min(4, outputs - n)
                    place = at + 4 * (row * columns + 4 * (t % quads))
                    value, slopes = zeros(4), zeros(4)
                    if primal:
                        z = epilogue.plus(epilogue.summed(place, 4 * half_rows * columns, teams), biases)
                        value, slopes = epilogue.activated(z, np.float32(alpha))
                        epilogue.write(y.address + to, value, count, wide_stores)
                    if has_dy:
                        if not primal:
                            slopes = epilogue.activated(
                                epilogue.read(y.address + to, count), np.float32(alpha)
                            )[1]
                        dots = np.float32(0)
                        if directions.kind == RANK1:
                            place_dots = at + at_dots + 4 * (half * half_rows + row) * parts
                            dots = epilogue.added(place_dots, parts)
                        dz = epilogue.scaled(dots, rights, shifts)
                        if any_tangent:
                            dz = epilogue.plus(
                                epilogue.summed(place + at_dz, 4 * half_rows * columns, teams), dz
                            )
                        epilogue.write(
                            dy + 4 * slot * y.block + to, epilogue.times(slopes, dz), count, wide_stores
                        )
            barrier()

    size, loader = tile.name, "wide" if wide else "single"
    names = [name for name, summed in zip(("primal", "tangent", "entries"), sums, strict=True) if summed]
    opcode = ("FFMA.FTZ",) if exact else ("HMMA",)
    return Kernel(
        f"product-{size}-{precision}-{'-'.join(names) or 'dots'}-{loader}",
        product,
        THREADS,
        opcodes=("LDGSTS", *opcode) if names else ("LDGSTS",),
    )


_DUAL = [Sums(p, t, e) for p in (True, False) for t in (False, True) for e in (False, True)]

KERNELS = {
    (precision, tile.name, sums, wide): _tile_kernel(tile, precision, sums, wide)
    for precision, tile, wide in (
        ("float32", LARGE, True),
        ("float32", SMALL, True),
        ("float32", SMALL, False),
        ("tf32", TENSOR["tf32"], True),
        ("bf16", TENSOR["bf16"], True),
    )
    for sums in _DUAL
    # What multiplies nothing is the same in every precision.
    if any(sums) or precision == "float32"
}
"""By precision, tile, sums and loads."""
