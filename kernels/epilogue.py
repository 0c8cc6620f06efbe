"""What follows the products of any layer that has weights: rank-1 terms, slope, bias tangent."""

from functools import cache

import numpy as np
from numba import carray

from fgnumba.kernels.compile import kernel
from fgnumba.kernels.emit import pointer


@cache
def dot_rows() -> int:
    """Address of ``(rows, K, x, ld, u, out)``: out[i] = x_i · u.

    The sum is reassociated, so that it vectorises; a row's result depends on nothing but K and the row.
    """
    return kernel("dot-rows", _dot_rows, 6, fastmath={"contract", "nsz", "reassoc"})


def _dot_rows(rows: int, k: int, x: int, ld: int, u: int, out: int) -> None:
    left = carray(pointer(u, np.float32), k)
    xs = carray(pointer(x, np.float32), (rows, ld))
    dots = carray(pointer(out, np.float32), rows)
    for i in range(rows):
        total = np.float32(0)
        for j in range(k):
            total += xs[i, j] * left[j]
        dots[i] = total


@cache
def combine() -> int:
    """Address of ``(rows, columns, dz, slopes, dots, right, shift, dy, ld)``: a tile's tangent.

    dy = a'(z) (dz + (x·u) w + c); without dz where its address is 0, without the middle term where that of
    `dots` is 0. dz and slopes are contiguous (rows, columns), dy's rows are `ld` apart. dz is overwritten.
    """
    return kernel("combine-tangent", _combine, 9)


def _combine(
    rows: int, columns: int, dz: int, slopes: int, dots: int, right: int, shift: int, dy: int, ld: int
) -> None:
    slope = carray(pointer(slopes, np.float32), (rows, columns))
    c = carray(pointer(shift, np.float32), columns)
    out = carray(pointer(dy, np.float32), (rows, ld))
    w = carray(pointer(right, np.float32), columns)
    s = carray(pointer(dots, np.float32), rows)
    product = carray(pointer(dz, np.float32), (rows, columns))
    if dots == 0:
        for i in range(rows):
            for n in range(columns):
                out[i, n] = slope[i, n] * (product[i, n] + c[n])
    elif dz == 0:
        for i in range(rows):
            for n in range(columns):
                out[i, n] = slope[i, n] * (s[i] * w[n] + c[n])
    else:
        for i in range(rows):
            for n in range(columns):
                out[i, n] = slope[i, n] * (product[i, n] + (s[i] * w[n] + c[n]))
