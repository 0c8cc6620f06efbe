"""Projections on a GPU: h · v_t of an array packed like a parameter, the directions drawn again; see ``cpu``.

A block takes a panel and up to eight directions, one for each warp; where there are fewer directions than warps,
several warps share the rows of one direction. Sums are added up by lane, then by warp, always in the same order.
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, kernel
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Size,
    barrier,
    block_x,
    block_y,
    load_f32,
    load_f32x4,
    shared,
    shared_load_f64,
    shared_load_u32,
    shared_store_f64,
    store_f64,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.cuda.sums import SLOT, WARPS, warp_sum_f64
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.rules.directions import GAUSSIAN, RANK1
from fgnumba.kernels.rules.directions.cuda import sign_words, turned
from fgnumba.kernels.rules.philox import ENTRY
from fgnumba.kernels.shared.drawn.cpu import Drawn
from fgnumba.kernels.shared.drawn.cuda import (
    PAIRS,
    arguments,
    counter,
    gaussian_quad,
    lanes,
    layout,
    outer_words,
    store_words,
)
from fgnumba.validation.launcher import launcher

_ROWS = 4 * WARP
"""Number of rows of a panel whose signs a warp draws at a time."""

_BYTES = SLOT + WARPS * _ROWS * 4

_ZERO = np.float32(0)


@launcher
def bind(
    isa: object,
    threads: int,
    *,
    values: DeviceArray,
    directions: Drawn,
    sums: DeviceArray,
) -> Operation:
    """Bind the projection of one array, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    values : DeviceArray
        The array h, packed like the parameter of the directions.
    directions : Drawn
        The parameter's directions.
    sums : DeviceArray
        (panels, T) float64, written, which add up to h · v_t; (1, T) for a vector.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads the values once for each direction, seven times of eight from caches; one addition an entry.
    """
    across = 1
    while across < min(WARPS, directions.count):
        across *= 2
    taken = {
        **arguments(directions),
        **layout(directions),
        "values": values,
        "sums": sums,
        "across": across,
    }
    taken.pop("panels")
    blocks = (directions.panels, -(-directions.count // across), 1)
    if directions.kind == GAUSSIAN:
        launch = Launch(_gaussians, blocks, taken)
    else:
        launch = Launch(_signs, blocks, {**taken, "outer": int(directions.kind == RANK1)})
    return Operation("projection", (launch,), keeps=(values, directions, sums))


@device_function
def _row(h: int, word: np.uint32, lane: int, count: int) -> np.float32:
    """Return the sum of four entries of a row of h v; padding counts as 0."""
    four = load_f32x4(h + 4 * lane)
    total = turned(four[0], word, lane) if lane < count else _ZERO
    total = total + (turned(four[1], word, lane + 1) if lane + 1 < count else _ZERO)
    total = total + (turned(four[2], word, lane + 2) if lane + 2 < count else _ZERO)
    return total + (turned(four[3], word, lane + 3) if lane + 3 < count else _ZERO)


@device_function
def _store_sums(total: np.float64, at: int, sums: int, count: int, across: int) -> None:
    """Write the sum of each of the block's directions, over the warps that share it."""
    total = warp_sum_f64(total)
    if thread() % WARP == 0:
        shared_store_f64(at + thread() // WARP * 8, total)
    barrier()
    t = block_y() * across + thread()
    if thread() < across and t < count:
        total = np.float64(0)
        for warp in range(thread(), WARPS, across):
            total = total + shared_load_f64(at + 8 * warp)
        store_f64(sums + 8 * (block_x() * count + t), total)


@kernel("projection-signs", resident=4)
def _signs(
    values: Address,
    sums: Address,
    count: Size,
    first: Address,
    parameter: Size,
    stream: Address,
    rows: Size,
    by_row: Size,
    width: Size,
    period: Size,
    across: Size,
    outer: Size,
) -> None:
    slot = shared(_BYTES)
    panel, warp, place = block_x(), thread() // WARP, thread() % WARP
    words = slot + SLOT + warp * _ROWS * 4
    t, share, step = block_y() * across + warp % across, warp // across * _ROWS, WARPS // across * _ROWS
    c2, inside = counter(first, t, parameter), lanes(panel, width, period)
    total = np.float64(0)
    for start in range(0, rows, step):
        begin = start + share
        row = begin + 4 * place
        if t < count and row < rows:
            if outer:
                store_words(words + 16 * place, outer_words(stream, row >> 2, panel, c2))
            else:
                store_words(words + 16 * place, sign_words(stream, row >> 2, panel, ENTRY, c2))
        barrier()
        if t < count:
            end = begin + _ROWS if begin + _ROWS < rows else rows
            for row in range(begin + place // 8, end, WARP // 8):
                word = shared_load_u32(words + 4 * (row - begin))
                found = lanes(row, width, period) if by_row else inside
                h = values + 4 * PANEL * (panel * rows + row)
                total = total + np.float64(_row(h, word, place % 8 * 4, found))
        barrier()
    _store_sums(total, slot, sums, count, across)


@device_function
def _two(h: int, j: int, low: np.float32, high: np.float32, count: int) -> np.float32:
    """Return the sum of two entries of a row of h v; padding counts as 0."""
    total = load_f32(h + 4 * j) * low if j < count else _ZERO
    return total + (load_f32(h + 4 * (PAIRS + j)) * high if PAIRS + j < count else _ZERO)


@kernel("projection-gaussian")
def _gaussians(
    values: Address,
    sums: Address,
    count: Size,
    first: Address,
    parameter: Size,
    stream: Address,
    rows: Size,
    by_row: Size,
    width: Size,
    period: Size,
    across: Size,
) -> None:
    slot = shared(SLOT)
    panel, warp, j = block_x(), thread() // WARP, thread() % PAIRS
    t = block_y() * across + warp % across
    share = thread() % WARP // PAIRS + 2 * (warp // across)
    total, inside = np.float64(0), lanes(panel, width, period)
    if t < count:
        for row in range(4 * share, rows, 8 * (WARPS // across)):
            v = gaussian_quad(stream, row >> 2, panel, j, counter(first, t, parameter))
            h = values + 4 * PANEL * (panel * rows + row)
            dot = _two(h, j, v[0], v[1], lanes(row, width, period) if by_row else inside)
            if row + 1 < rows:
                found = lanes(row + 1, width, period) if by_row else inside
                dot = dot + _two(h + 4 * PANEL, j, v[2], v[3], found)
            if row + 2 < rows:
                found = lanes(row + 2, width, period) if by_row else inside
                dot = dot + _two(h + 8 * PANEL, j, v[4], v[5], found)
            if row + 3 < rows:
                found = lanes(row + 3, width, period) if by_row else inside
                dot = dot + _two(h + 12 * PANEL, j, v[6], v[7], found)
            total = total + np.float64(dot)
    _store_sums(total, slot, sums, count, across)
