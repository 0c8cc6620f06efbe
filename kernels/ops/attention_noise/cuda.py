"""Error signals of queries, keys and values on a GPU, from the tangent of attention along noise on them; see ``cpu``.

d_t = e_t · ȯ_t
out = d_t ε_t                      for a query t
out = (Σ_t d_t) ε_s                for a key or a value s; the sum is over the positions t that see s
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import THREADS, BlockImages, blocks_for, element, elementwise, images
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Size,
    barrier,
    block_x,
    divide,
    load_f32,
    shared,
    shared_load_f64,
    shared_store_f64,
    store_f32,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.cuda.sums import warp_sum
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.ops.attention_noise import ranges
from fgnumba.validation.launcher import launcher

_SUMS = 8 * THREADS  # bytes


@launcher
def bind_estimate(
    threads: int,
    *,
    batch: int,
    signal: Images,
    tangent: Images,
    signs: Images,
    out: Images,
    heads: int,
    key_heads: int,
    causal: bool,
    by_head: bool = True,
) -> Operation:
    """Bind the error signals of queries, keys and values, as ``cpu.bind_estimate`` does.

    Parameters
    ----------
    threads : int
        Not used.
    batch : int
        Number of examples B.
    signal, tangent : Images
        e and ȯ: sequences (L, 1, H D), head beside head.
    signs : Images
        ε: sequences (L, 1, (H + 2 G) D), whose columns are the queries of all heads, then keys, then values.
    out : Images
        Written: the error signals, of the same shape as `signs`. It may be the same memory as `signs`.
    heads, key_heads : int
        H, and G, the number of heads of keys and of values. Query head h reads key head h // (H // G).
    causal : bool
        Whether query t sees the keys s <= t alone; else it sees all.
    by_head : bool
        Whether d_t is taken over the columns of each head. Keys and values have the sum over the heads that read them.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: reads signal, tangent and signs once and writes out once; a warp computes each d_t, and a block the sums of
    an example and a group over positions, in float64. A number for each d_t and each sum is written and read again.
    """
    length, _, columns = signal.shape
    parted = ranges(heads, key_heads, columns // heads, by_head)
    memory: Any = out.memory
    across = parted.groups * parted.heads
    slopes = DeviceArray.zeros(memory.driver, (batch, length, across))
    seen = DeviceArray.zeros(memory.driver, (batch, length, parted.groups))
    n = batch * length * out.shape[2]
    products = {
        "signal": images(BlockImages, signal),
        "tangent": images(BlockImages, tangent),
        "slopes": slopes,
        "n": slopes.size,
        "length": length,
        "across": across,
        "columns": parted.queries,
    }
    sums = {
        "slopes": slopes,
        "seen": seen,
        "length": length,
        "groups": parted.groups,
        "heads": parted.heads,
        "causal": int(causal),
    }
    scaled = {
        "slopes": slopes,
        "seen": seen,
        "signs": images(BlockImages, signs),
        "out": images(BlockImages, out),
        "n": n,
        "length": length,
        "across": across,
        "groups": parted.groups,
        "queries": parted.queries,
        "keys": parted.keys,
        "columns": out.shape[2],
    }
    launches = (
        Launch(_products, (blocks_for(slopes.size, THREADS // WARP), 1, 1), products),
        Launch(_sums, (batch * parted.groups, 1, 1), sums),
        elementwise(_scale, n, scaled),
    )
    keeps = (signal.memory, tangent.memory, signs.memory, out.memory, slopes, seen)
    return Operation("attention-noise", launches, keeps=keeps)


@kernel("attention-noise-products")
def _products(
    signal: BlockImages,
    tangent: BlockImages,
    slopes: Address,
    n: Size,
    length: Size,
    across: Size,
    columns: Size,
) -> None:
    e = block_x() * (THREADS // WARP) + thread() // WARP
    if e >= n:
        return
    rows, part = divide(e, across)
    i, t = divide(rows, length)
    x = signal.address + 4 * (i * signal.image + t * signal.row + part * columns)
    dx = tangent.address + 4 * (i * tangent.image + t * tangent.row + part * columns)
    total = np.float32(0)
    for c in range(thread() % WARP, columns, WARP):
        total += load_f32(x + 4 * c) * load_f32(dx + 4 * c)
    total = warp_sum(total)
    if thread() % WARP == 0:
        store_f32(slopes + 4 * e, total)


@kernel("attention-noise-sums")
def _sums(slopes: Address, seen: Address, length: Size, groups: Size, heads: Size, causal: Size) -> None:
    """Write Σ d_t of each position, over it and those after it, or over all."""
    totals = shared(_SUMS)
    i, group = divide(block_x(), groups)
    # A thread has some positions side by side.
    each = (length + THREADS - 1) // THREADS
    first, end = thread() * each, min(length, (thread() + 1) * each)
    total = np.float64(0)
    for t in range(first, end):
        at = slopes + 4 * (((i * length + t) * groups + group) * heads)
        for h in range(heads):
            total = total + np.float64(load_f32(at + 4 * h))
    shared_store_f64(totals + 8 * thread(), total)
    barrier()
    later = np.float64(0)
    for other in range(thread() + 1 if causal else 0, THREADS):
        later = later + shared_load_f64(totals + 8 * other)
    for back in range(end - first):
        t = end - 1 - back
        if causal:
            at = slopes + 4 * (((i * length + t) * groups + group) * heads)
            for h in range(heads):
                later = later + np.float64(load_f32(at + 4 * h))
        store_f32(seen + 4 * ((i * length + t) * groups + group), np.float32(later))


@kernel("attention-noise")
def _scale(
    slopes: Address,
    seen: Address,
    signs: BlockImages,
    out: BlockImages,
    n: Size,
    length: Size,
    across: Size,
    groups: Size,
    queries: Size,
    keys: Size,
    columns: Size,
) -> None:
    e = element()
    if e >= n:
        return
    rows, column = divide(e, columns)
    i, t = divide(rows, length)
    factor = np.float32(0)
    if column < across * queries:
        factor = load_f32(slopes + 4 * (rows * across + divide(column, queries)[0]))
    else:
        # Ranges of keys, then ranges of values.
        part = divide(column - across * queries, keys)[0]
        factor = load_f32(seen + 4 * (rows * groups + (part if part < groups else part - groups)))
    sign = load_f32(signs.address + 4 * (i * signs.image + t * signs.row + column))
    store_f32(out.address + 4 * (i * out.image + t * out.row + column), factor * sign)
