"""Fragments of tensor-core products: a lane's words of tiles of float32 in shared memory.

A lane holds those words of A (16 rows) and B (8 columns) that PTX's ``mma.m16n8k8`` (TF32) or ``mma.m16n8k16``
(bfloat16) takes from it; sums are float32. Rows of X have 64 bytes, and their chunks of 16 bytes are permuted by pairs
of rows: so the 32 reads of a warp fall into 32 banks.

Functions take places of elements, bytes in shared memory: `at` is that of the lane's own element, `beside` that of the
element further in K with which it shares a word's row. `width` is the number of bytes of a row of W.
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
"""Bytes of 8 rows, and of 16 rows, of a tile of X."""


@device_function
def place(row: int, k: int) -> int:
    """Return the place of an element in a tile of X; ``place ^ 16`` is 4 elements further in K, ``place ^ 32`` 8."""
    return 64 * row + 16 * ((k >> 2) ^ ((row >> 1) & 3)) + 4 * (k & 3)


@device_function
def rows_tf32(at: int, beside: int) -> Words:
    """Return a lane's words of 16 rows and 8 columns of X; `beside` is 4 elements further in K."""
    return (
        round_tf32(shared_load_f32(at)),
        round_tf32(shared_load_f32(at + EIGHT_ROWS)),
        round_tf32(shared_load_f32(beside)),
        round_tf32(shared_load_f32(beside + EIGHT_ROWS)),
    )


@device_function
def columns_tf32(at: int, width: int) -> Words:
    """Return a lane's words of 8 rows and 2 x 8 columns of W."""
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
    """Return a lane's words of 16 rows and 16 columns of X; `beside` is 8 elements further in K."""
    return _pair(at), _pair(at + EIGHT_ROWS), _pair(beside), _pair(beside + EIGHT_ROWS)


@device_function
def columns_bf16(at: int, width: int) -> Words:
    """Return a lane's words of 16 rows and 2 x 8 columns of W."""
    return (
        pack_bf16(shared_load_f32(at), shared_load_f32(at + width)),
        pack_bf16(shared_load_f32(at + 8 * width), shared_load_f32(at + 9 * width)),
        pack_bf16(shared_load_f32(at + 32), shared_load_f32(at + 32 + width)),
        pack_bf16(shared_load_f32(at + 32 + 8 * width), shared_load_f32(at + 32 + 9 * width)),
    )
