"""How the attention kernels of a GPU multiply tiles in shared memory, and write results.

Of a tile of scores, 32 x 32, a thread has four rows and two columns, ``lane`` and ``lane + 16``. Of a tile of results,
32 x 64, it has the same four rows and four columns, so that what it knows of a row, such as its maximum, serves both.
The 16 threads with the same rows, a team, are half a warp. Wider results take more blocks.
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.primitives import (
    Floats,
    barrier,
    commit_copies,
    fma_outer,
    lanes_xor_f32,
    narrow,
    shared_columns,
    shared_load_f32x4,
    store_f32,
    store_f32x4,
    wait_copies,
    zeros,
)
from fgnumba.kernels.ops.attention.loads_cuda import (
    SIDE,
    STRIDE,
    TILE,
    VALUE_STRIDE,
    Place,
    Rows,
    stage_factors,
)

LANES = 16
"""Threads of a team."""

_SECOND = LANES * STRIDE  # from the row of factors of a thread's first column of scores to that of its second


@device_function
def pairs(at: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return four columns of the two rows of factors that meet a thread's two columns of scores."""
    a, b = shared_load_f32x4(at), shared_load_f32x4(at + _SECOND)
    return (a[0], b[0]), (a[1], b[1]), (a[2], b[2]), (a[3], b[3])


@device_function
def add_scores(total: Floats, x_at: int, w_at: int, columns: int) -> Floats:
    """Return a thread's scores, four rows of two, plus the products of up to 32 columns of factors.

    Parameters
    ----------
    total : floats
        The scores so far.
    x_at, w_at : int
        Addresses in shared memory of the first row of factors for the thread's rows, and for its columns.
    columns : int
        Number of columns of factors.
    """
    c = narrow(0)
    while c < columns:
        x0, x1, x2, x3 = shared_columns(x_at + 4 * c, STRIDE, 4)
        w0, w1, w2, w3 = pairs(w_at + 4 * c)
        total = fma_outer(fma_outer(total, x0, w0), x1, w1)
        total = fma_outer(fma_outer(total, x2, w2), x3, w3)
        c = narrow(c + 4)
    return total


@device_function
def scores(to: Place, x_at: int, w_at: int, x: Rows, w: Rows, size: int, wide: int) -> Floats:
    """Return a thread's products x wᵀ of a tile, after all copies that were begun have ended.

    Parameters
    ----------
    to : Place
        Where the thread copies to in the tile of x; that of w follows.
    x_at, w_at : int
        Addresses in shared memory of the first row of factors for the thread's rows, and for its columns.
    x, w : Rows
        Factors in global memory.
    size : int
        Number of columns of factors.
    wide : int
        Whether rows begin at multiples of 16 bytes.
    """
    total, c = zeros(8), narrow(0)
    while c < size:
        left = narrow(size - c)
        stage_factors(to, 0, x, c, left, wide)
        stage_factors(to, TILE, w, c, left, wide)
        commit_copies()
        wait_copies(0)
        barrier()
        total = add_scores(total, x_at, w_at, narrow(min(SIDE, left)))
        barrier()
        c = narrow(c + SIDE)
    return total


@device_function
def add_result(total: Floats, s_at: int, v_at: int, rows: int) -> Floats:
    """Return a thread's results, four rows of four, plus the products of scores and up to 32 rows of values.

    Parameters
    ----------
    total : floats
        The results so far.
    s_at, v_at : int
        Addresses in shared memory of the thread's first row of scores, and of its columns of the first row of values.
    rows : int
        Number of rows of values.
    """
    r = narrow(0)
    while r < rows:
        s0, s1, s2, s3 = shared_columns(s_at + 4 * r, STRIDE, 4)
        at = v_at + r * VALUE_STRIDE
        v0, v1 = shared_load_f32x4(at), shared_load_f32x4(at + VALUE_STRIDE)
        v2, v3 = shared_load_f32x4(at + 2 * VALUE_STRIDE), shared_load_f32x4(at + 3 * VALUE_STRIDE)
        total = fma_outer(fma_outer(total, s0, v0), s1, v1)
        total = fma_outer(fma_outer(total, s2, v2), s3, v3)
        r = narrow(r + 4)
    return total


@device_function
def times_rows(total: Floats, a: np.float32, b: np.float32, c: np.float32, d: np.float32) -> Floats:
    """Return a thread's results with each of its four rows multiplied by a number."""
    return (
        total[0] * a,
        total[1] * a,
        total[2] * a,
        total[3] * a,
        total[4] * b,
        total[5] * b,
        total[6] * b,
        total[7] * b,
        total[8] * c,
        total[9] * c,
        total[10] * c,
        total[11] * c,
        total[12] * d,
        total[13] * d,
        total[14] * d,
        total[15] * d,
    )


@device_function
def less_rows(
    total: Floats, other: Floats, a: np.float32, b: np.float32, c: np.float32, d: np.float32
) -> Floats:
    """Return a thread's results less others, with each of the four rows of these multiplied by a number."""
    return (
        total[0] - other[0] * a,
        total[1] - other[1] * a,
        total[2] - other[2] * a,
        total[3] - other[3] * a,
        total[4] - other[4] * b,
        total[5] - other[5] * b,
        total[6] - other[6] * b,
        total[7] - other[7] * b,
        total[8] - other[8] * c,
        total[9] - other[9] * c,
        total[10] - other[10] * c,
        total[11] - other[11] * c,
        total[12] - other[12] * d,
        total[13] - other[13] * d,
        total[14] - other[14] * d,
        total[15] - other[15] * d,
    )


@device_function
def team_sum(value: np.float32) -> np.float32:
    """Return the sum of a float32 over a team; each thread gets it."""
    for step in range(4):
        value = value + lanes_xor_f32(value, 8 >> step)
    return value


@device_function
def team_max(value: np.float32) -> np.float32:
    """Return the greatest float32 of a team; each thread gets it."""
    for step in range(4):
        other = lanes_xor_f32(value, 8 >> step)
        value = other if other > value else value
    return value


@device_function
def store_quad(
    at: int, left: int, wide: int, a: np.float32, b: np.float32, c: np.float32, d: np.float32
) -> None:
    """Write the first `left` of four neighbouring numbers to global memory."""
    if wide and left >= 4:
        store_f32x4(at, (a, b, c, d))
        return
    if left > 0:
        store_f32(at, a)
    if left > 1:
        store_f32(at + 4, b)
    if left > 2:
        store_f32(at + 8, c)
    if left > 3:
        store_f32(at + 12, d)


@device_function
def store_rows(at: int, row: int, rows: int, left: int, wide: int, total: Floats) -> None:
    """Write a thread's results to global memory.

    Parameters
    ----------
    at : int
        Address of its first number.
    row : int
        Numbers from one row to the next.
    rows, left : int
        Numbers of rows and columns that there are from the thread's first on; may be none.
    wide : int
        Whether rows begin at multiples of 16 bytes.
    total : floats
        Four rows of four.
    """
    if rows > 0:
        store_quad(at, left, wide, total[0], total[1], total[2], total[3])
    if rows > 1:
        store_quad(at + 4 * row, left, wide, total[4], total[5], total[6], total[7])
    if rows > 2:
        store_quad(at + 8 * row, left, wide, total[8], total[9], total[10], total[11])
    if rows > 3:
        store_quad(at + 12 * row, left, wide, total[12], total[13], total[14], total[15])
