"""The tile of dense layers and convolutions: primal and tangent of an implicit matrix product in one pass.

    z[m, n]  = Σ_k X[m, k] W[k, n] + b[n]                       y  = a(z)
    dz[m, n] = Σ_k dX[m, k] W[k, n] + X[m, k] V[k, n] + c[n]    dy = a'(z) dz

Row m is an example, or a pixel of a convolution's output; column k of X is then an element of the pixels under the
kernel, read where it lies in the image: no matrix of patches exists, and a dense layer is a convolution of an image of
one pixel. a is (leaky) relu or the identity, a(z) = z for z > 0, else alpha z; others follow by an operation of their
own.

A block of 256 threads computes a tile. X, dX, W and V pass through shared memory, copied asynchronously one or two steps
of K ahead, or, where V is drawn, written there as it is drawn. Rank-1 directions need no V: x V = (x · u) wᵀ, and x · u
is summed from the tile of X that is there anyway, a few of its elements a thread.

Kernels differ in what they sum (``Sums``), their precision and their tile, and in whether X is loaded 16 bytes at once.
Source: arXiv 2202.08587, section 3; rank-1 signs have E[v vᵀ] = I.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fgnumba.kernels.activations.cuda import leaky
from fgnumba.kernels.directions import EXPLICIT, GAUSSIAN, RANK1
from fgnumba.kernels.directions.cuda import (
    gaussian,
    gaussian_of_vector,
    pick,
    sign_words,
    signed_one,
    turned,
)
from fgnumba.kernels.gpu.kernel import Kernel, device_function
from fgnumba.kernels.gpu.primitives import (
    Address,
    Floats,
    Real,
    Size,
    barrier,
    block_x,
    block_y,
    block_z,
    commit_copies,
    copy4,
    copy16,
    divide,
    fma,
    fma_outer,
    load_f32,
    load_f32x4,
    mma_bf16,
    mma_tf32,
    shared,
    shared_columns,
    shared_load_f32,
    shared_load_f32x4,
    shared_store_f32,
    shared_store_fragments,
    shared_store_rows,
    store_f32,
    store_f32x4,
    thread,
    wait_copies,
    zeros,
)
from fgnumba.kernels.gpu.tensor_tile import columns_bf16, columns_tf32, rows_bf16, rows_tf32
from fgnumba.kernels.philox import DIRECTION_SHIFT, ENTRY, LEFT, RIGHT

THREADS = 256
PRECISIONS = ("float32", "tf32", "bf16")


class Sums(NamedTuple):
    """What a kernel sums: X W, dX W, X V. Without any of them it is rank-1 directions at a first layer."""

    primal: bool
    tangent: bool
    entries: bool


@dataclass(frozen=True)
class Tile:
    """How a block computes.

    Parameters
    ----------
    rows, columns, depth : of the tile, and of a step along K.
    teams : of threads, which share the depth of a step and add their sums up at the end.
    stages : steps in shared memory.
    padding : floats between rows of W in shared memory, beside its columns.
    """

    name: str
    rows: int
    columns: int
    depth: int
    teams: int
    stages: int
    padding: int = 0

    @property
    def width(self) -> int:
        """Bytes from one row of W to the next."""
        return 4 * (self.columns + self.padding)


LARGE = Tile("large", 128, 64, 16, 1, 2)
"""8 x 4 sums a thread and product: as many fused multiply-adds a load from shared memory as registers allow."""

SMALL = Tile("small", 32, 32, 32, 4, 3)
"""4 x 4 sums a thread, four teams: enough blocks for a whole GPU from small layers."""

TENSOR = {"tf32": Tile("tensor", 64, 64, 16, 1, 2, 8), "bf16": Tile("tensor", 64, 64, 16, 1, 2, 4)}
"""Tensor cores: a warp computes 32 x 16. Rows of W are so far apart that a warp reads from different banks."""


def _tile_kernel(tile: Tile, precision: str, sums: Sums, wide: bool) -> Kernel:
    """Return the kernel of a combination.

    Parameters
    ----------
    wide : X is loaded 16 bytes at a time: its channels are a multiple of 4, or there is one tap.
    """
    primal, tangent, entries = sums
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
    under_way = stages - 2
    across = columns // 4
    # A group of rows that one swizzle serves: those that a thread, or a pair of lanes, reads at once.
    swizzled = 2 if tensor else high
    parts = THREADS // rows  # threads that share the dot of a row
    dot_chunks = chunks // parts
    team_depth = depth // teams
    halves = 2 if teams == 1 and rows == 128 else 1
    half_rows = rows // halves
    any_tangent = tangent or entries
    at_dz = 4 * teams * half_rows * columns * primal
    at_dots = at_dz + 4 * teams * half_rows * columns * any_tangent
    at_sums = at_dots + 4 * rows * parts
    shared_bytes = max(stages * stage_bytes, at_sums + 4 * rows)
    visits = half_rows * quads // THREADS

    def product(
        x: Address,
        dx: Address,
        weight: Address,
        bias: Address,
        v: Address,
        v_bias: Address,
        y: Address,
        dy: Address,
        stream: Address,
        x_block: Size,
        y_block: Size,
        v_block: Size,
        v_bias_block: Size,
        first: Size,
        parameter: Size,
        bias_parameter: Size,
        kind: Size,
        has_dy: Size,
        m_rows: Size,
        k_rows: Size,
        outputs: Size,
        panels: Size,
        group_tiles: Size,
        channels: Size,
        taps_wide: Size,
        x_image: Size,
        x_row: Size,
        x_pixel: Size,
        height: Size,
        width: Size,
        out_high: Size,
        out_wide: Size,
        stride_high: Size,
        stride_wide: Size,
        dilation_high: Size,
        dilation_wide: Size,
        top: Size,
        left: Size,
        y_image: Size,
        y_row: Size,
        y_pixel: Size,
        wide_stores: Size,
        alpha: Real,
    ) -> None:
        at = shared(shared_bytes)
        t = thread()
        group, column_tile = divide(block_x(), group_tiles)
        bn, bm = column_tile * columns, block_y() * rows
        slot = block_z()
        c2 = ((first + slot) << DIRECTION_SHIFT) + parameter
        x_from = x + 4 * group * channels
        dx_from = dx + 4 * (slot * x_block + group * channels)

        # What this thread loads of X: element k of rows that lie `step_rows` apart.
        if wide:
            row_loaded, k_loaded = t // chunks, 4 * (t % chunks)
        else:
            row_loaded, k_loaded = t // depth, t % depth
        tap, channel = divide(k_loaded, channels)
        tap_row, tap_column = divide(tap, taps_wide)
        inside_0, base_0, top_0, left_0 = _origin(
            bm + row_loaded, m_rows, out_high, out_wide, stride_high, stride_wide, top, left, x_image
        )
        inside_1, base_1, top_1, left_1 = inside_0, base_0, top_0, left_0
        if wide and loads == 2:
            inside_1, base_1, top_1, left_1 = _origin(
                bm + row_loaded + rows // 2,
                m_rows,
                out_high,
                out_wide,
                stride_high,
                stride_wide,
                top,
                left,
                x_image,
            )
        k_w, n_w = t // quads, 4 * (t % quads)
        panel_w = (bn + n_w) >> 5
        panel_at = 4 * ((group * panels + panel_w) * k_rows * 32 + ((bn + n_w) & 31))
        quad_v, n_v = t // columns, t % columns
        panel_v, lane_v = group * panels + ((bn + n_v) >> 5), (bn + n_v) & 31

        # What this thread multiplies.
        team, member = t // (THREADS // teams), t % (THREADS // teams)
        tr, tc = member // across, member % across
        total, d_total = zeros(own), zeros(own)
        warp, lane = t // 32, t % 32
        fragment_row, fragment_column = 32 * (warp // 4) + lane // 4, 16 * (warp % 4) + lane // 4
        zero = np.uint32(0)
        left_words = zero, zero, zero, zero
        dot = np.float32(0)
        dot_row, dot_part = t // parts, t % parts

        steps = (k_rows + depth - 1) // depth
        load_stage, read_stage = 0, 0
        for step in range(1 - stages, steps):
            if step >= 0:
                # After this, step's tiles are there, and those of the step before have been read by all.
                wait_copies(under_way)
                barrier()
            ahead = step + stages - 1
            if ahead < steps:
                stage = at + load_stage
                k0 = ahead * depth
                rest = k_rows - k0
                high_at, wide_at = tap_row * dilation_high, tap_column * dilation_wide
                if wide:
                    room = 4 * min(4, channels - channel) if k_loaded < rest else 0
                    target = stage + _swizzled(row_loaded, k_loaded >> 2, chunks, swizzled)
                    source, nbytes = _pixel(
                        inside_0,
                        base_0,
                        top_0 + high_at,
                        left_0 + wide_at,
                        channel,
                        height,
                        width,
                        x_row,
                        x_pixel,
                        room,
                    )
                    copy16(target, x_from + source, nbytes)
                    if tangent:
                        copy16(target + at_dx, dx_from + source, nbytes)
                    if loads == 2:
                        target = stage + _swizzled(row_loaded + rows // 2, k_loaded >> 2, chunks, swizzled)
                        source, nbytes = _pixel(
                            inside_1,
                            base_1,
                            top_1 + high_at,
                            left_1 + wide_at,
                            channel,
                            height,
                            width,
                            x_row,
                            x_pixel,
                            room,
                        )
                        copy16(target, x_from + source, nbytes)
                        if tangent:
                            copy16(target + at_dx, dx_from + source, nbytes)
                else:
                    room = 4 if k_loaded < rest else 0
                    for e in range(singles):
                        row = row_loaded + e * (THREADS // depth)
                        inside, base, high_0, wide_0 = _origin(
                            bm + row, m_rows, out_high, out_wide, stride_high, stride_wide, top, left, x_image
                        )
                        source, nbytes = _pixel(
                            inside,
                            base,
                            high_0 + high_at,
                            wide_0 + wide_at,
                            channel,
                            height,
                            width,
                            x_row,
                            x_pixel,
                            room,
                        )
                        target = stage + _swizzled(row, k_loaded >> 2, chunks, swizzled) + 4 * (k_loaded & 3)
                        copy4(target, x_from + source, nbytes)
                        if tangent:
                            copy4(target + at_dx, dx_from + source, nbytes)
                channel += depth
                while channel >= channels:
                    channel -= channels
                    tap_column += 1
                    if tap_column == taps_wide:
                        tap_column = 0
                        tap_row += 1
                if k_w < depth:
                    nbytes = 16 if k_w < rest and panel_w < panels else 0
                    source = panel_at + 128 * (k0 + k_w) if nbytes > 0 else 0
                    target = stage + at_w + k_w * w_width + 4 * n_w
                    if primal or tangent:
                        copy16(target, weight + source, nbytes)
                    if entries and kind == EXPLICIT:
                        copy16(target + w_bytes, v + 4 * slot * v_block + source, nbytes)
                if entries and kind != EXPLICIT and quad_v < chunks:
                    target = stage + at_v + 4 * quad_v * w_width + 4 * n_v
                    quad = (k0 >> 2) + quad_v
                    if kind == GAUSSIAN:
                        for i in range(4):
                            entry = gaussian(stream, 4 * quad + i, panel_v, lane_v, ENTRY, c2)
                            shared_store_f32(target + i * w_width, entry)
                    else:
                        signs = sign_words(stream, quad, panel_v, ENTRY, c2)
                        shared_store_f32(target, signed_one(signs[0], lane_v))
                        shared_store_f32(target + w_width, signed_one(signs[1], lane_v))
                        shared_store_f32(target + 2 * w_width, signed_one(signs[2], lane_v))
                        shared_store_f32(target + 3 * w_width, signed_one(signs[3], lane_v))
            commit_copies()
            load_stage = load_stage + stage_bytes if load_stage < (stages - 1) * stage_bytes else 0
            if step >= 0:
                stage = at + read_stage
                read_stage = read_stage + stage_bytes if read_stage < (stages - 1) * stage_bytes else 0
                if kind == RANK1:
                    k0 = step * depth
                    if k0 & 127 == 0:
                        left_words = sign_words(stream, k0 >> 7, 0, LEFT, c2)
                    word = pick(left_words, (k0 >> 5) & 3)
                    for i in range(dot_chunks):
                        chunk = dot_part * dot_chunks + i
                        xs = shared_load_f32x4(stage + _swizzled(dot_row, chunk, chunks, swizzled))
                        sign = (k0 & 31) + 4 * chunk
                        dot = dot + turned(xs[0], word, sign) + turned(xs[1], word, sign + 1)
                        dot = dot + turned(xs[2], word, sign + 2) + turned(xs[3], word, sign + 3)
                if exact and (primal or any_tangent):
                    for i in range(team_depth // 4):
                        chunk = team * (team_depth // 4) + i
                        xs_at = stage + _swizzled(tr * high, chunk, chunks, swizzled)
                        w_at = stage + at_w + 4 * chunk * w_width + 16 * tc
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
                if precision == "tf32":
                    for i in range(2):
                        k = 8 * i + lane % 4
                        w_at = stage + at_w + k * w_width + 4 * fragment_column
                        ws = columns_tf32(w_at, w_width)
                        xs = rows_tf32(stage, fragment_row, k) + rows_tf32(stage, fragment_row + 16, k)
                        if primal:
                            total = mma_tf32(total, xs, ws)
                        if entries:
                            d_total = mma_tf32(d_total, xs, columns_tf32(w_at + w_bytes, w_width))
                        if tangent:
                            at_tangent = stage + at_dx
                            xs = rows_tf32(at_tangent, fragment_row, k) + rows_tf32(
                                at_tangent, fragment_row + 16, k
                            )
                            d_total = mma_tf32(d_total, xs, ws)
                if precision == "bf16":
                    k = 2 * (lane % 4)
                    w_at = stage + at_w + k * w_width + 4 * fragment_column
                    ws = columns_bf16(w_at, w_width)
                    xs = rows_bf16(stage, fragment_row, k) + rows_bf16(stage, fragment_row + 16, k)
                    if primal:
                        total = mma_bf16(total, xs, ws)
                    if entries:
                        d_total = mma_bf16(d_total, xs, columns_bf16(w_at + w_bytes, w_width))
                    if tangent:
                        at_tangent = stage + at_dx
                        xs = rows_bf16(at_tangent, fragment_row, k) + rows_bf16(
                            at_tangent, fragment_row + 16, k
                        )
                        d_total = mma_bf16(d_total, xs, ws)
        wait_copies(0)
        barrier()

        # The sums go through shared memory, so that a row's columns are written next to each other.
        n = bn + 4 * (t % quads)
        at_n = group * panels * 32 + n
        biases, rights, shifts = zeros(4), zeros(4), zeros(4)
        if n < outputs:
            biases = load_f32x4(bias + 4 * at_n)
            if has_dy and kind == RANK1:
                word = pick(sign_words(stream, at_n >> 7, 0, RIGHT, c2), (at_n >> 5) & 3)
                rights = _four_signs(word, at_n & 31)
            if has_dy and bias_parameter >= 0:
                bias_c2 = ((first + slot) << DIRECTION_SHIFT) + bias_parameter
                if kind == EXPLICIT:
                    shifts = load_f32x4(v_bias + 4 * (slot * v_bias_block + at_n))
                elif kind == GAUSSIAN:
                    shifts = (
                        gaussian_of_vector(stream, at_n, ENTRY, bias_c2),
                        gaussian_of_vector(stream, at_n + 1, ENTRY, bias_c2),
                        gaussian_of_vector(stream, at_n + 2, ENTRY, bias_c2),
                        gaussian_of_vector(stream, at_n + 3, ENTRY, bias_c2),
                    )
                else:
                    word = pick(sign_words(stream, at_n >> 7, 0, ENTRY, bias_c2), (at_n >> 5) & 3)
                    shifts = _four_signs(word, at_n & 31)
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
                    i, pixel = divide(m, out_high * out_wide)
                    h, w = divide(pixel, out_wide)
                    to = 4 * (i * y_image + h * y_row + w * y_pixel + group * outputs + n)
                    count = min(4, outputs - n)
                    place = at + 4 * (row * columns + 4 * (t % quads))
                    value, slopes = zeros(4), zeros(4)
                    if primal:
                        z = _plus(_summed(place, 4 * half_rows * columns, teams), biases)
                        value, slopes = _activated(z, np.float32(alpha))
                        _write(y + to, value, count, wide_stores)
                    if has_dy:
                        if not primal:
                            slopes = _activated(_read(y + to, count), np.float32(alpha))[1]
                        dots = np.float32(0)
                        if kind == RANK1:
                            for part in range(parts):
                                place_dots = at + at_dots + 4 * ((half * half_rows + row) * parts + part)
                                dots = dots + shared_load_f32(place_dots)
                        dz = _scaled(dots, rights, shifts)
                        if any_tangent:
                            dz = _plus(_summed(place + at_dz, 4 * half_rows * columns, teams), dz)
                        _write(dy + 4 * slot * y_block + to, _times(slopes, dz), count, wide_stores)
            barrier()

    size, loader = tile.name, "wide" if wide else "single"
    names = [name for name, summed in zip(("primal", "tangent", "entries"), sums, strict=True) if summed]
    opcode = ("FFMA",) if exact else ("HMMA",)
    return Kernel(
        f"product-{size}-{precision}-{'-'.join(names) or 'dots'}-{loader}",
        product,
        THREADS,
        opcodes=("LDGSTS", *opcode) if names else ("LDGSTS",),
    )


@device_function
def _swizzled(row: int, chunk: int, chunks: int, rows: int) -> int:
    """Return the place of 16 bytes of a row of X: those of `rows` rows at a time are moved to other banks."""
    return 16 * (row * chunks + (chunk ^ (row // rows & (chunks - 1))))


@device_function
def _origin(
    m: int,
    rows: int,
    out_high: int,
    out_wide: int,
    stride_high: int,
    stride_wide: int,
    top: int,
    left: int,
    image: int,
) -> tuple[bool, int, int, int]:
    """Return whether there is a row m, the bytes to its image, and the pixel of that under the kernel's first tap."""
    i, pixel = divide(m, out_high * out_wide)
    h, w = divide(pixel, out_wide)
    return m < rows, 4 * i * image, h * stride_high - top, w * stride_wide - left


@device_function
def _pixel(
    inside: bool,
    base: int,
    h: int,
    w: int,
    channel: int,
    height: int,
    width: int,
    row: int,
    pixel: int,
    room: int,
) -> tuple[int, int]:
    """Return the bytes to a channel of a pixel, and how many of `room` bytes to copy: none outside of the image."""
    if inside and 0 <= h < height and 0 <= w < width and room > 0:
        return base + 4 * (h * row + w * pixel + channel), room
    return 0, 0


@device_function
def _four_signs(word: np.uint32, lane: int) -> Floats:
    return (
        signed_one(word, lane),
        signed_one(word, lane + 1),
        signed_one(word, lane + 2),
        signed_one(word, lane + 3),
    )


@device_function
def _plus(a: Floats, b: Floats) -> Floats:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


@device_function
def _times(a: Floats, b: Floats) -> Floats:
    return a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]


@device_function
def _scaled(factor: np.float32, a: Floats, b: Floats) -> Floats:
    return (
        fma(factor, a[0], b[0]),
        fma(factor, a[1], b[1]),
        fma(factor, a[2], b[2]),
        fma(factor, a[3], b[3]),
    )


@device_function
def _summed(place: int, stride: int, teams: int) -> Floats:
    """Return what the teams have summed, in their order."""
    found = shared_load_f32x4(place)
    for team in range(1, teams):
        found = _plus(found, shared_load_f32x4(place + team * stride))
    return found


@device_function
def _activated(z: Floats, alpha: np.float32) -> tuple[Floats, Floats]:
    """Return a(z) and a'(z)."""
    (a, da), (b, db) = leaky(z[0], alpha), leaky(z[1], alpha)
    (c, dc), (d, dd) = leaky(z[2], alpha), leaky(z[3], alpha)
    return (a, b, c, d), (da, db, dc, dd)


@device_function
def _write(at: int, values: Floats, count: int, wide: int) -> None:
    """Write the first `count` values."""
    if wide and count == 4:
        store_f32x4(at, values)
    else:
        store_f32(at, values[0])
        if count > 1:
            store_f32(at + 4, values[1])
        if count > 2:
            store_f32(at + 8, values[2])
        if count > 3:
            store_f32(at + 12, values[3])


@device_function
def _read(at: int, count: int) -> Floats:
    """Return `count` values, and zeros."""
    zero = np.float32(0)
    return (
        load_f32(at),
        load_f32(at + 4) if count > 1 else zero,
        load_f32(at + 8) if count > 2 else zero,
        load_f32(at + 12) if count > 3 else zero,
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
