"""Fragments of tensor-core products, from tiles of float32 in shared memory, and where they lie in them.

A lane's words of A (16 rows) and B (8 columns) are those that PTX's ``mma.m16n8k8`` (TF32) and ``mma.m16n8k16``
(bfloat16) want of it; sums are float32. Rows of X are 64 bytes, their chunks of 16 bytes swizzled by pairs of rows: so
the 32 reads of a warp fall into 32 banks.
"""

from typing import Any

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.primitives import (
    pack_bf16,
    round_tf32,
    shared_load_f32,
    shared_load_f32x2,
)

Words = tuple[Any, ...]

EIGHT_ROWS, SIXTEEN_ROWS = 512, 1024
"""Bytes of a tile of X."""


@device_function
def place(row: int, k: int) -> int:
    """Return the bytes from a tile of X to an element: ``^ 16`` leads to its neighbour in K by 4, ``^ 32`` by 8."""
    return 64 * row + 16 * ((k >> 2) ^ ((row >> 1) & 3)) + 4 * (k & 3)


@device_function
def rows_tf32(at: int, beside: int) -> Words:
    """Return a lane's words of 16 rows and 8 columns of X: from its own element on, and the one 4 further in K."""
    return (
        round_tf32(shared_load_f32(at)),
        round_tf32(shared_load_f32(at + EIGHT_ROWS)),
        round_tf32(shared_load_f32(beside)),
        round_tf32(shared_load_f32(beside + EIGHT_ROWS)),
    )


@device_function
def columns_tf32(at: int, width: int) -> Words:
    """Return a lane's words of 8 rows and 2 x 8 columns of W; `at` is the lane's own, `width` the bytes of a row."""
    return (
        round_tf32(shared_load_f32(at)),
        round_tf32(shared_load_f32(at + 4 * width)),
        round_tf32(shared_load_f32(at + 32)),
        round_tf32(shared_load_f32(at + 32 + 4 * width)),
    )


@device_function
def _pair(at: int) -> Any:
    two = shared_load_f32x2(at)
    return pack_bf16(two[0], two[1])


@device_function
def rows_bf16(at: int, beside: int) -> Words:
    """Return a lane's words of 16 rows and 16 columns of X: from its own element on, and the one 8 further in K."""
    return _pair(at), _pair(at + EIGHT_ROWS), _pair(beside), _pair(beside + EIGHT_ROWS)


@device_function
def columns_bf16(at: int, width: int) -> Words:
    """Return a lane's words of 16 rows and 2 x 8 columns of W; `at` is the lane's own, `width` the bytes of a row."""
    return (
        pack_bf16(shared_load_f32(at), shared_load_f32(at + width)),
        pack_bf16(shared_load_f32(at + 8 * width), shared_load_f32(at + 9 * width)),
        pack_bf16(shared_load_f32(at + 32), shared_load_f32(at + 32 + width)),
        pack_bf16(shared_load_f32(at + 32 + 8 * width), shared_load_f32(at + 32 + 9 * width)),
    )
