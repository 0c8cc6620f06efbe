"""The gradient of a convolution's weights on a GPU, from its input x and the error signal δ of its pre-activations.

    dW[k, n] = Σ_p x[p, k] δ[p, n]        p an output pixel of an example, k an element of the pixels under the kernel
    db[n]    = Σ_p δ[p, n]

The sum is over all pixels of the batch, and dW is small. So the pixels are cut into shares; each share has a sum of its
own, and a second kernel adds these up in order. The result does not depend on how blocks are scheduled.
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import BlockImages, element, elementwise, images
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    Address,
    Size,
    barrier,
    block_x,
    block_y,
    block_z,
    divide,
    fma,
    fma_outer,
    load_f32,
    shared,
    shared_load_f32,
    shared_load_f32x4,
    shared_store_f32,
    store_f32,
    store_f32x4,
    thread,
    zeros,
)
from fgnumba.kernels.cuda.program import MAX_BLOCKS_YZ, Launch, Operation
from fgnumba.kernels.layout.geometry import Geometry, is_channelwise
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.shared.product.cuda.pixels import Taps, taps_of

TILE = 64
"""Number of rows, and of columns, of dW that a block sums."""

STEP = 16
"""Number of pixels that are in shared memory at a time."""

THREADS = 256
LEAST_SHARE = 256
"""Fewest pixels of a share: each share costs a pass over its sums."""


def bind(
    processors: int,
    *,
    batch: int,
    x: Images,
    dz: Images,
    geometry: Geometry,
    out: DeviceArray,
    bias: DeviceArray | None,
    onto: bool,
    multiply_adds: int,
) -> Operation:
    """Bind dW, packed like W, and db.

    Parameters
    ----------
    processors : int
        Number of multiprocessors.
    batch : int
        Number of examples B.
    x : Images
        Input of the convolution.
    dz : Images
        Error signal δ of its pre-activations.
    geometry : Geometry
        Size of the kernel, and how it moves.
    out : DeviceArray
        dW, packed like W, written.
    bias : DeviceArray or None
        db, written; None where the layer has no bias.
    onto : bool
        Whether the gradient is added to what `out` and `bias` hold.
    multiply_adds : int
        Number of multiply-adds, for the plan.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: H' W' K N multiply-adds an example; reads x once for each tile of 64 outputs, and δ once for each tile of 64
    rows of dW.
    """
    channels = x.shape[2]
    out_high, out_wide, outputs = dz.shape
    channelwise = is_channelwise(geometry, channels, outputs)
    groups = 1 if channelwise else geometry.groups
    columns = outputs // groups
    panels, k_rows = out.shape[0] // groups, out.shape[1]
    rows = batch * out_high * out_wide
    tiles_n, tiles_k = (
        -(-columns // (32 if channelwise else TILE)),
        -(-k_rows // (1 if channelwise else TILE)),
    )
    shares = max(1, min(2 * processors // (tiles_n * tiles_k * groups), rows // LEAST_SHARE, MAX_BLOCKS_YZ))
    sums = DeviceArray.zeros(out.driver, (shares, out.size))
    bias_sums = DeviceArray.zeros(out.driver, (shares, out.shape[0] * 32))
    arguments = {
        "x": images(BlockImages, x),
        "dz": images(BlockImages, dz),
        "sums": sums,
        "bias_sums": bias_sums,
        "m_rows": rows,
        "k_rows": k_rows,
        "outputs": columns,
        "panels": panels,
        "all_panels": groups * panels,
        "group_tiles": tiles_n,
        "shares": shares,
        "channels": channels // groups,
        "taps": taps_of(geometry, x, dz),
    }
    if channelwise:
        for name in ("channels", "group_tiles", "panels"):
            del arguments[name]
    summing = _depthwise_sums if channelwise else _sums
    launches = [Launch(summing, (tiles_n * groups, tiles_k, shares), arguments)]
    for total, parts in ((out, sums), (bias, bias_sums)):
        if total is not None:
            added = {"total": total, "parts": parts, "n": total.size, "shares": shares, "onto": int(onto)}
            launches.append(elementwise(_total, total.size, added))
    return Operation(
        "weight-gradient",
        tuple(launches),
        multiply_adds,
        keeps=(x.memory, dz.memory, out, bias, sums, bias_sums),
    )


@kernel("conv2d-gradient", THREADS, opcodes=("FFMA.FTZ",))
def _sums(
    x: BlockImages,
    dz: BlockImages,
    sums: Address,
    bias_sums: Address,
    m_rows: Size,
    k_rows: Size,
    outputs: Size,
    panels: Size,
    all_panels: Size,
    group_tiles: Size,
    shares: Size,
    channels: Size,
    taps: Taps,
) -> None:
    at = shared(8192)
    at_d = at + 4 * STEP * TILE
    t = thread()
    group, tile = divide(block_x(), group_tiles)
    n0, k0, share = tile * TILE, block_y() * TILE, block_z()
    first, end = m_rows * share // shares, m_rows * (share + 1) // shares
    # One column of x, four pixels apart, and one of δ.
    column, row = t % TILE, t // TILE
    tap, channel = divide(k0 + column, channels)
    tap_row, tap_column = divide(tap, taps.across)
    high_at, wide_at = tap_row * taps.dilation_high - taps.top, tap_column * taps.dilation_wide - taps.left
    x_at = x.address + 4 * (group * channels + channel)
    dz_at = dz.address + 4 * (group * outputs + n0 + column)
    has_k, has_n = k0 + column < k_rows, n0 + column < outputs
    tr, tc = t // 16, t % 16
    total, bias_total = zeros(16), np.float32(0)
    for start in range(first, end, STEP):
        barrier()
        for e in range(4):
            p = row + 4 * e
            value, told = np.float32(0), np.float32(0)
            if start + p < end:
                i, pixel = divide(start + p, taps.out_high * taps.out_wide)
                h, w = divide(pixel, taps.out_wide)
                high, wide = h * taps.stride_high + high_at, w * taps.stride_wide + wide_at
                if has_k and 0 <= high < taps.height and 0 <= wide < taps.width:
                    value = load_f32(x_at + 4 * (i * x.image + high * x.row + wide * x.pixel))
                if has_n:
                    told = load_f32(dz_at + 4 * (i * dz.image + h * dz.row + w * dz.pixel))
            shared_store_f32(at + 4 * (p * TILE + column), value)
            shared_store_f32(at_d + 4 * (p * TILE + column), told)
        barrier()
        for p in range(STEP):
            xs = shared_load_f32x4(at + 4 * (p * TILE + 4 * tr))
            ds = shared_load_f32x4(at_d + 4 * (p * TILE + 4 * tc))
            total = fma_outer(total, xs, ds)
        if t < TILE and block_y() == 0:
            for p in range(STEP):
                bias_total = bias_total + shared_load_f32(at_d + 4 * (p * TILE + t))
    n = n0 + 4 * tc
    if n < panels * 32:
        panel = share * all_panels + group * panels + (n >> 5)
        out, k = sums + 4 * (panel * k_rows * 32 + (n & 31)), k0 + 4 * tr
        if k < k_rows:
            store_f32x4(out + 128 * k, total[0:4])
        if k + 1 < k_rows:
            store_f32x4(out + 128 * (k + 1), total[4:8])
        if k + 2 < k_rows:
            store_f32x4(out + 128 * (k + 2), total[8:12])
        if k + 3 < k_rows:
            store_f32x4(out + 128 * (k + 3), total[12:16])
    if t < TILE and block_y() == 0 and n0 + t < panels * 32:
        store_f32(bias_sums + 4 * ((share * all_panels + group * panels) * 32 + n0 + t), bias_total)


@kernel("conv2d-gradient-depthwise", THREADS)
def _depthwise_sums(
    x: BlockImages,
    dz: BlockImages,
    sums: Address,
    bias_sums: Address,
    m_rows: Size,
    k_rows: Size,
    outputs: Size,
    all_panels: Size,
    shares: Size,
    taps: Taps,
) -> None:
    # A block takes 32 channels and one tap: eight pixels at a time, whose sums are added up in order.
    at = shared(2048)
    t = thread()
    lane, line = t & 31, t >> 5
    panel, tap, share = block_x(), block_y(), block_z()
    c = panel * 32 + lane
    high_at = tap // taps.across * taps.dilation_high - taps.top
    wide_at = tap % taps.across * taps.dilation_wide - taps.left
    total, bias_total = np.float32(0), np.float32(0)
    if c < outputs:
        for p in range(m_rows * share // shares + line, m_rows * (share + 1) // shares, 8):
            i, pixel = divide(p, taps.out_high * taps.out_wide)
            h, w = divide(pixel, taps.out_wide)
            told = load_f32(dz.address + 4 * (i * dz.image + h * dz.row + w * dz.pixel + c))
            bias_total = bias_total + told
            high, wide = h * taps.stride_high + high_at, w * taps.stride_wide + wide_at
            if 0 <= high < taps.height and 0 <= wide < taps.width:
                value = load_f32(x.address + 4 * (i * x.image + high * x.row + wide * x.pixel + c))
                total = fma(value, told, total)
    shared_store_f32(at + 4 * t, total)
    shared_store_f32(at + 1024 + 4 * t, bias_total)
    barrier()
    if line < 2:
        added = np.float32(0)
        for other in range(8):
            added = added + shared_load_f32(at + 1024 * line + 4 * (32 * other + lane))
        if line == 0:
            store_f32(sums + 4 * (((share * all_panels + panel) * k_rows + tap) * 32 + lane), added)
        elif tap == 0:
            store_f32(bias_sums + 4 * ((share * all_panels + panel) * 32 + lane), added)


@kernel("conv2d-gradient-total")
def _total(total: Address, parts: Address, n: Size, shares: Size, onto: Size) -> None:
    e = element()
    if e >= n:
        return
    value = np.float32(0)
    if onto:
        value = load_f32(total + 4 * e)
    for share in range(shares):
        value = value + load_f32(parts + 4 * (share * n + e))
    store_f32(total + 4 * e, value)
