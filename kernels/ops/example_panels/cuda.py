"""Sums over examples on a GPU: xᵀ δ, the gradient of a weight from its layer's input x and error signal δ.

    g [q, k, n] = Σ_b x[b, k] δ[b, n]

Both factors come in panels, and the product is packed like the weight; see ``cpu``. A block of the product computes 64
rows of one panel of g: 64 x 32 of x and 32 x 32 of δ at a time pass through shared memory.
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, kernel
from fgnumba.kernels.cuda.layout import elementwise, first_pixel
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    Address,
    Size,
    barrier,
    block_x,
    block_y,
    divide,
    fma_outer,
    load_f32,
    load_f32x4,
    shared,
    shared_columns,
    shared_load_f32,
    shared_load_f32x4,
    shared_store_f32,
    shared_store_f32x4,
    store_f32,
    store_f32x4,
    thread,
    zeros,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.ops.example_panels.features_cuda import BLOCK, add_rows, copy_rows, total_rows
from fgnumba.validation.launcher import launcher

_ROWS, _THREADS = 64, 128
# Rows of a's tile lie 36 elements apart in shared memory: the four that a warp reads fall into different banks.
_LEADING = 36
_W_TILE = 4 * _ROWS * _LEADING
_ROW_STEP = 4 * 16 * _LEADING
_ZERO = np.float32(0)


@launcher
def bind_product(
    name: str,
    isa: object,
    threads: int,
    *,
    a: DeviceArray,
    w: DeviceArray,
    out: DeviceArray,
    rows: int,
    terms: int,
    columns: int,
    onto: bool,
    multiply_adds: int,
    from_memory: bool = False,
) -> Operation:
    """Bind ``out[q, r] = Σ_s a[s, r] · w[q, s]`` for r < R, as ``cpu.bind_product`` does.

    Whole panels of `out` are written: the padding of w comes out as the padding of `out`.

    Parameters
    ----------
    name : str
        Name of the operation.
    isa, threads : object, int
        Not used.
    a : DeviceArray
        (panels of terms, at least R, 32) float32.
    w : DeviceArray
        (panels of columns, at least S, 32) float32.
    out : DeviceArray
        (panels of columns, at least R, 32) float32, written.
    rows, terms, columns : int
        R, S and the number of columns.
    onto : bool
        Whether the product is added to what `out` holds.
    multiply_adds : int
        Number of multiply-adds, for the plan.
    from_memory : bool
        Not used.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: 64 ceil(R / 64) multiply-adds for each term and column, columns rounded up to 32; reads a once for each panel
    of w, and w once for each 64 rows.
    """
    arguments = {
        "a": a,
        "a_panel": a.shape[1] * PANEL,
        "w": w,
        "w_panel": w.shape[1] * PANEL,
        "out": out,
        "out_panel": out.shape[1] * PANEL,
        "rows": rows,
        "terms": terms,
        "onto": int(onto),
    }
    launch = Launch(_product, (-(-rows // _ROWS), w.shape[0], 1), arguments)
    return Operation(name, (launch,), multiply_adds=multiply_adds, keeps=(a, w, out))


@kernel("panel-product", threads=_THREADS, opcodes=("FFMA.FTZ",))
def _product(
    a: Address,
    a_panel: Size,
    w: Address,
    w_panel: Size,
    out: Address,
    out_panel: Size,
    rows: Size,
    terms: Size,
    onto: Size,
) -> None:
    tile_a = shared(13312)
    tile_w = tile_a + _W_TILE
    first, q = _ROWS * block_x(), block_y()
    # A thread sums four rows, 16 apart, of four neighbouring columns.
    row, column = thread() >> 3, 4 * (thread() & 7)
    total = zeros(16)
    for p in range((terms + 31) >> 5):
        left = terms - 32 * p
        barrier()
        for k in range(4):
            r = row + 16 * k
            x = (_ZERO, _ZERO, _ZERO, _ZERO)
            if first + r < rows:
                x = load_f32x4(a + 4 * (p * a_panel + 32 * (first + r) + column))
            shared_store_f32x4(tile_a + 4 * (_LEADING * r + column), _kept(x, left - column))
        for k in range(2):
            s = row + 16 * k
            x = (_ZERO, _ZERO, _ZERO, _ZERO)
            if s < left:
                x = load_f32x4(w + 4 * (q * w_panel + 32 * (32 * p + s) + column))
            shared_store_f32x4(tile_w + 4 * (32 * s + column), x)
        barrier()
        for s in range(0, 32, 4):
            x0, x1, x2, x3 = shared_columns(tile_a + 4 * (_LEADING * row + s), _ROW_STEP, 4)
            at = tile_w + 4 * (32 * s + column)
            total = fma_outer(total, x0, shared_load_f32x4(at))
            total = fma_outer(total, x1, shared_load_f32x4(at + 128))
            total = fma_outer(total, x2, shared_load_f32x4(at + 256))
            total = fma_outer(total, x3, shared_load_f32x4(at + 384))
    row += first
    at = out + 4 * (q * out_panel + 32 * row + column)
    if row < rows:
        _put(at, total[0:4], onto)
    if row + 16 < rows:
        _put(at + 2048, total[4:8], onto)
    if row + 32 < rows:
        _put(at + 4096, total[8:12], onto)
    if row + 48 < rows:
        _put(at + 6144, total[12:16], onto)


@device_function
def _kept(x: Any, count: int) -> Any:
    """Return four numbers of which those from number `count` on are replaced by zeros: they lie beyond the terms."""
    return (
        x[0] if count > 0 else _ZERO,
        x[1] if count > 1 else _ZERO,
        x[2] if count > 2 else _ZERO,
        x[3] if count > 3 else _ZERO,
    )


@device_function
def _put(at: int, values: Any, onto: int) -> None:
    """Write four numbers to an address, or, where `onto`, add them to what is there."""
    if onto:
        old = load_f32x4(at)
        store_f32x4(at, (old[0] + values[0], old[1] + values[1], old[2] + values[2], old[3] + values[3]))
    else:
        store_f32x4(at, values)


@launcher
def bind_to_panels(isa: object, threads: int, *, x: Images, panels: DeviceArray, batch: int) -> Operation:
    """Bind the copy of examples to example panels, with zeros beyond the batch.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    x : Images
        Examples (B, N).
    panels : DeviceArray
        (ceil(B / 32), at least N, 32) float32, written.
    batch : int
        Number of examples B.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads x once, writes the panels once.
    """
    features = x.shape[0] * x.shape[1] * x.shape[2]
    rows, filled = first_pixel(x), PANEL * panels.shape[0]
    launch = transposition(
        (rows, PANEL, x.image), (panels, panels.shape[1] * PANEL, PANEL), batch, features, filled
    )
    return Operation("to-panels", (launch,), keeps=(x.memory, panels))


@launcher
def bind_from_panels(isa: object, threads: int, *, x: Images, panels: DeviceArray, batch: int) -> Operation:
    """Bind the copy of example panels to examples.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    x : Images
        Examples (B, N), written.
    panels : DeviceArray
        (ceil(B / 32), at least N, 32) float32.
    batch : int
        Number of examples B.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads the panels once, writes x once.
    """
    features = x.shape[0] * x.shape[1] * x.shape[2]
    rows = first_pixel(x)
    launch = transposition(
        (panels, panels.shape[1] * PANEL, PANEL), (rows, PANEL, x.image), features, batch, features
    )
    return Operation("from-panels", (launch,), keeps=(x.memory, panels))


def transposition(
    x: tuple[Any, int, int], y: tuple[Any, int, int], rows: int, columns: int, filled: int
) -> Launch:
    """Return the launch of the transposition y[j, i] = x[i, j].

    Parameters
    ----------
    x, y : tuple
        An address, the number of elements from one panel of 32 columns to the next, and from one row to the next. A
        matrix without panels has panels that are 32 elements apart.
    rows, columns : int
        Shape of x.
    filled : int
        Number of columns of y that are written, at least `rows`; those beyond `rows` become zero.

    Returns
    -------
    Launch
        The launch.
    """
    across = -(-columns // PANEL)
    arguments = {
        "x": x[0],
        "x_panel": x[1],
        "x_row": x[2],
        "y": y[0],
        "y_panel": y[1],
        "y_row": y[2],
        "rows": rows,
        "columns": columns,
        "filled": filled,
        "across": across,
    }
    return Launch(_transpose, (-(-filled // PANEL) * across, 1, 1), arguments)


@kernel("transpose")
def _transpose(
    x: Address,
    x_panel: Size,
    x_row: Size,
    y: Address,
    y_panel: Size,
    y_row: Size,
    rows: Size,
    columns: Size,
    filled: Size,
    across: Size,
) -> None:
    # 32 x 32 elements pass through shared memory, in rows 33 apart: a warp reads and writes different banks.
    tile = shared(4224)
    down, right = divide(block_x(), across)
    lane, strip = thread() & 31, thread() >> 5
    for k in range(strip, 32, 8):
        i, value = 32 * down + k, _ZERO
        if i < rows and 32 * right + lane < columns:
            value = load_f32(x + 4 * (right * x_panel + i * x_row + lane))
        shared_store_f32(tile + 4 * (33 * k + lane), value)
    barrier()
    for k in range(strip, 32, 8):
        j = 32 * right + k
        if j < columns and 32 * down + lane < filled:
            store_f32(
                y + 4 * (down * y_panel + j * y_row + lane), shared_load_f32(tile + 4 * (33 * lane + k))
            )


@launcher
def bind_rows_to_feature_panels(
    isa: object,
    threads: int,
    *,
    x: Images,
    panels: DeviceArray,
    batch: int,
    sums: DeviceArray | None = None,
    onto: bool = False,
) -> Operation:
    """Bind the copy of rows (R, N) to panels of their features, and the sums of the rows, as on the CPU.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    x : Images
        The rows: examples (1, 1, N), or the positions of sequences (L, 1, N) by position.
    panels : DeviceArray
        (ceil(N / 32), at least R, 32) float32, written: the rows, with zeros in the padding.
    batch : int
        Number of rows R.
    sums : DeviceArray or None
        (at least N,) float32, written: Σ over the rows, the gradient of a bias. None: it is not computed.
    onto : bool
        Whether the sums are added to what `sums` holds.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: reads x once and writes the panels once; the sums read x again. Rows are added up in float32 by ``BLOCK``, and
    the blocks in float64.
    """
    flat, driver = x.by_rows(), panels.driver
    source, columns, n = first_pixel(flat), flat.shape[2], panels.size
    rows = {"x": source, "x_row": flat.image, "rows": batch, "columns": columns}
    copied = {**rows, "out": panels, "out_rows": panels.shape[1], "n": n}
    launches, partial = [elementwise(copy_rows, n, copied)], None
    if sums is not None:
        blocks = -(-batch // BLOCK)
        partial = DeviceArray.zeros(driver, (blocks, columns))
        launches += [
            elementwise(add_rows, partial.size, {**rows, "partial": partial, "n": partial.size}),
            elementwise(
                total_rows,
                columns,
                {"partial": partial, "blocks": blocks, "columns": columns, "sums": sums, "onto": int(onto)},
            ),
        ]
    return Operation("to-feature-panels", tuple(launches), keeps=(x.memory, panels, sums, partial))
