"""Sums over pixels and examples on a GPU: the gradient of y = s x̂ + b in s and b; see ``cpu``.

    Σ_ip δ_ip x̂_ip        Σ_ip δ_ip

A block sums a share of the pixels for a few channels; a second launch adds up the blocks' sums in order.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import THREADS, BlockPixels, element, elementwise, images
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Size,
    barrier,
    block_x,
    block_y,
    divide,
    load_f32,
    shared,
    shared_load_f32,
    shared_store_f32,
    store_f32,
    thread,
)
from fgnumba.kernels.cuda.program import MAX_BLOCKS_YZ, Launch, Operation
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
from fgnumba.validation.launcher import launcher

_PIXELS_A_BLOCK = 64
_BLOCKS_A_PROCESSOR = 4


@launcher
def bind(
    threads: int,
    *,
    batch: int,
    x: Images,
    delta: Images,
    scale: npt.NDArray[np.float32],
    shift: npt.NDArray[np.float32],
    onto: bool,
) -> Operation:
    """Bind the sums, as ``cpu.bind`` does.

    Parameters
    ----------
    threads : int
        Not used.
    batch : int
        Number of examples B.
    x : Images
        Normalised input x̂.
    delta : Images
        Error signal δ.
    scale, shift : DeviceArray
        (at least C,) float32, written: Σ δ x̂ and Σ δ.
    onto : bool
        Whether the sums are added to what `scale` and `shift` hold.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: reads both images once; at most some hundred partial sums a channel are written and read again.
    """
    height, width, channels = x.shape
    memory: Any = x.memory
    driver = memory.driver
    pixels, lanes = batch * height * width, min(channels, WARP)
    chunks = -(-channels // lanes)
    wanted = -(-_BLOCKS_A_PROCESSOR * driver.processors // chunks)
    parts = min(wanted, -(-pixels // _PIXELS_A_BLOCK), MAX_BLOCKS_YZ)
    partial = DeviceArray.zeros(driver, (2, parts, channels))
    sums = {
        "x": images(BlockPixels, x),
        "delta": images(BlockPixels, delta),
        "partial": partial,
        "pixels": pixels,
        "inside": height * width,
        "channels": channels,
        "lanes": lanes,
        "rows": THREADS // lanes,
        "parts": parts,
    }
    totals = {
        "partial": partial,
        "parts": parts,
        "channels": channels,
        "scale": address(scale),
        "shift": address(shift),
        "onto": int(onto),
    }
    launches = (Launch(_sums, (chunks, parts, 1), sums), elementwise(_total, 2 * channels, totals))
    return Operation("channel-sums", launches, keeps=(x.memory, delta.memory, scale, shift, partial))


@kernel("channel-sums", resident=6)
def _sums(
    x: BlockPixels,
    delta: BlockPixels,
    partial: Address,
    pixels: Size,
    inside: Size,
    channels: Size,
    lanes: Size,
    rows: Size,
    parts: Size,
) -> None:
    buffer = shared(2048)
    row, lane = divide(thread(), lanes)
    channel = block_x() * lanes + lane
    product, total = np.float32(0), np.float32(0)
    # Threads without a channel, or beyond the rows, take no pixel.
    p = block_y() * rows + row if row < rows and channel < channels else pixels
    while p < pixels:
        i, place = divide(p, inside)
        d = load_f32(delta.address + 4 * (i * delta.image + place * delta.pixel + channel))
        product += d * load_f32(x.address + 4 * (i * x.image + place * x.pixel + channel))
        total += d
        p += parts * rows
    mine = buffer + 8 * thread()
    shared_store_f32(mine, product)
    shared_store_f32(mine + 4, total)
    barrier()
    left = rows
    while left > 1:
        half = (left + 1) // 2
        if row < left - half:
            other = mine + 8 * half * lanes
            product += shared_load_f32(other)
            total += shared_load_f32(other + 4)
            shared_store_f32(mine, product)
            shared_store_f32(mine + 4, total)
        barrier()
        left = half
    if row == 0 and channel < channels:
        store_f32(partial + 4 * (block_y() * channels + channel), product)
        store_f32(partial + 4 * ((parts + block_y()) * channels + channel), total)


@kernel("channel-sums-total")
def _total(partial: Address, parts: Size, channels: Size, scale: Address, shift: Address, onto: Size) -> None:
    e = element()
    if e >= 2 * channels:
        return
    which, channel = divide(e, channels)
    out = (shift if which else scale) + 4 * channel
    total = np.float32(0)
    for part in range(parts):
        total += load_f32(partial + 4 * ((which * parts + part) * channels + channel))
    if onto:
        total += load_f32(out)
    store_f32(out, total)
