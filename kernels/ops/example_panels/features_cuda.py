"""Kernels that copy rows to panels of their features on a GPU, and add the rows up; see ``cuda``."""

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import element
from fgnumba.kernels.cuda.primitives import Address, Size, divide, load_f32, store_f32

BLOCK = 64
"""Rows that are added up in float32, as on the CPU."""

_ZERO = np.float32(0)


@kernel("feature-panels")
def copy_rows(
    x: Address, x_row: Size, rows: Size, columns: Size, out: Address, out_rows: Size, n: Size
) -> None:
    """Write rows to panels of their features, one number in each thread."""
    e = element()
    if e >= n:
        return
    panel, row = divide(e >> 5, out_rows)
    column, value = 32 * panel + (e & 31), _ZERO
    if row < rows and column < columns:
        value = load_f32(x + 4 * (row * x_row + column))
    store_f32(out + 4 * e, value)


@kernel("feature-sums")
def add_rows(x: Address, x_row: Size, rows: Size, columns: Size, partial: Address, n: Size) -> None:
    """Add up one column of ``BLOCK`` rows in each thread."""
    e = element()
    if e >= n:
        return
    block, column = divide(e, columns)
    total = _ZERO
    for row in range(block * BLOCK, min(rows, (block + 1) * BLOCK)):
        total = total + load_f32(x + 4 * (row * x_row + column))
    store_f32(partial + 4 * e, total)


@kernel("feature-totals")
def total_rows(partial: Address, blocks: Size, columns: Size, sums: Address, onto: Size) -> None:
    """Add up the partial sums of one column in each thread."""
    column = element()
    if column >= columns:
        return
    total = np.float64(0)
    for block in range(blocks):
        total = total + np.float64(load_f32(partial + 4 * (block * columns + column)))
    value = np.float32(total)
    if onto:
        value = value + load_f32(sums + 4 * column)
    store_f32(sums + 4 * column, value)
