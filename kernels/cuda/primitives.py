"""The functions that GPU kernels are written with: memory, threads, asynchronous copies, tensor cores.

Each function here is the Python twin of some GPU instructions. The simulator runs the twins; ``lowering`` tells the
compiler the instructions. Nothing here needs a GPU or its packages.

Addresses are whole numbers of bytes: in global memory as a device array gives them, and in a block's shared memory as
:func:`shared` gives them. An access of 16 bytes requires an address that is a multiple of 16.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from fgnumba.kernels.cuda import simulator

Address = Annotated[int, "int64"]
"""Type of a kernel's parameter: an address, or any number of 64 bits."""
Size = Annotated[int, "int32"]
"""Type of a kernel's parameter: a size, a stride, a flag."""
Real = Annotated[float, "float32"]
"""Type of a kernel's parameter: a float32."""
Double = Annotated[float, "float64"]
"""Type of a kernel's parameter: a float64."""

Floats = Any
"""A few float32: a tuple of known length when compiled, an array or a tuple in the simulator."""

WARP = 32

_MASK = 0xFFFFFFFF
_HALF_WORD = 16


def thread() -> int:
    """Return the number of the thread in its block."""
    return simulator.running().thread


def block_x() -> int:
    """Return the block's number along the grid's first axis."""
    return simulator.running().block[0]


def block_y() -> int:
    """Return the block's number along the grid's second axis."""
    return simulator.running().block[1]


def block_z() -> int:
    """Return the block's number along the grid's third axis."""
    return simulator.running().block[2]


def barrier() -> None:
    """Wait for all threads of the block; after it, every thread sees what the others wrote before."""
    simulator.running().barrier()


def load_f32(address: int) -> np.float32:
    """Return the float32 at an address."""
    return np.float32(simulator.running().load(address, "f4"))


def load_f64(address: int) -> np.float64:
    """Return the float64 at an address."""
    return np.float64(simulator.running().load(address, "f8"))


def load_i64(address: int) -> int:
    """Return the int64 at an address."""
    return int(simulator.running().load(address, "i8"))


def load_u8(address: int) -> int:
    """Return the byte at an address, 0 to 255."""
    return int(simulator.running().load(address, "u1"))


def load_f32x4(address: int) -> Floats:
    """Return the four float32 that begin at an address, a multiple of 16, in one access."""
    return simulator.running().load(address, "f4", 4)


def store_f32(address: int, value: np.float32) -> None:
    """Write a float32 to an address."""
    simulator.running().store(address, "f4", value)


def store_f64(address: int, value: np.float64) -> None:
    """Write a float64 to an address."""
    simulator.running().store(address, "f8", value)


def store_i64(address: int, value: int) -> None:
    """Write an int64 to an address."""
    simulator.running().store(address, "i8", value)


def store_f32x4(address: int, values: Floats) -> None:
    """Write four float32 to an address, a multiple of 16, in one access."""
    simulator.running().store(address, "f4", *values)


def shared(nbytes: int) -> int:
    """Return the address of `nbytes` bytes of the block's shared memory; a kernel asks once, for a literal number."""
    return simulator.running().shared(nbytes)


def shared_load_f32(address: int) -> np.float32:
    """Return the float32 at an address of shared memory."""
    return np.float32(simulator.running().shared_load(address, "f4"))


def shared_load_f64(address: int) -> np.float64:
    """Return the float64 at an address of shared memory."""
    return np.float64(simulator.running().shared_load(address, "f8"))


def shared_load_u32(address: int) -> np.uint32:
    """Return the uint32 at an address of shared memory."""
    return np.uint32(simulator.running().shared_load(address, "u4"))


def shared_load_f32x4(address: int) -> Floats:
    """Return the four float32 that begin at an address of shared memory, in one access."""
    return simulator.running().shared_load(address, "f4", 4)


def shared_load_f32x2(address: int) -> Floats:
    """Return the two float32 that begin at an address of shared memory, in one access."""
    return simulator.running().shared_load(address, "f4", 2)


def shared_store_f32(address: int, value: np.float32) -> None:
    """Write a float32 to shared memory."""
    simulator.running().shared_store(address, "f4", value)


def shared_store_f64(address: int, value: np.float64) -> None:
    """Write a float64 to shared memory."""
    simulator.running().shared_store(address, "f8", value)


def shared_store_u32(address: int, value: np.uint32) -> None:
    """Write a uint32 to shared memory."""
    simulator.running().shared_store(address, "u4", value)


def shared_store_f32x4(address: int, values: Floats) -> None:
    """Write four float32 to shared memory, in one access."""
    simulator.running().shared_store(address, "f4", *values)


def copy16(target: int, source: int, nbytes: int) -> None:
    """Begin to copy `nbytes` bytes (0 to 16) from global memory to 16 bytes of shared memory; the rest becomes zero."""
    simulator.running().copy(target, source, 16, nbytes)


def copy4(target: int, source: int, nbytes: int) -> None:
    """Begin to copy `nbytes` bytes (0 or 4) from global memory to 4 bytes of shared memory; 0 bytes write a zero."""
    simulator.running().copy(target, source, 4, nbytes)


def commit_copies() -> None:
    """Make one group of the copies that this thread has begun since the last group."""
    simulator.running().commit_copies()


def wait_copies(groups: int) -> None:
    """Wait until at most `groups` (a literal) of this thread's groups of copies have not ended."""
    simulator.running().wait_copies(groups)


def lanes_xor_f32(value: np.float32, mask: int) -> np.float32:
    """Return the value of the lane whose number differs by `mask`; all lanes of the warp take part."""
    return np.float32(simulator.running().exchange(value, mask))


def lanes_xor_f64(value: np.float64, mask: int) -> np.float64:
    """Return the value of the lane whose number differs by `mask`; all lanes of the warp take part."""
    return np.float64(simulator.running().exchange(value, mask))


def mul_hi_lo(a: np.uint32, b: np.uint32) -> tuple[np.uint32, np.uint32]:
    """Return the upper and the lower 32 bits of the product of two uint32."""
    product = int(a) * int(b)
    return np.uint32(product >> 32), np.uint32(product & _MASK)


def add_u32(a: np.uint32, b: np.uint32) -> np.uint32:
    """Return the sum of two uint32 modulo 2**32."""
    return np.uint32((int(a) + int(b)) & _MASK)


def fma(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """Return a b + c, rounded once."""
    return np.float32(np.float64(a) * np.float64(b) + np.float64(c))


def bits_of(value: np.float32) -> np.uint32:
    """Return the bits of a float32."""
    return np.uint32(np.float32(value).view(np.uint32))


def float_of(bits: np.uint32) -> np.float32:
    """Return the float32 that has these bits."""
    return np.float32(np.uint32(bits).view(np.float32))


def finite(value: np.float64) -> bool:
    """Whether a float64 is neither infinite nor NaN."""
    return bool(np.isfinite(value))


def divide(a: int, b: int) -> tuple[int, int]:
    """Return quotient and remainder of numbers from 0 to 2**31 - 1; 64 bits would take three times as long."""
    assert 0 <= a < 1 << 31
    assert 0 < b < 1 << 31
    return divmod(int(a), int(b))


def narrow(value: int) -> int:
    """Return a number as one of 32 bits, which it must fit into: sums and products of such take one instruction."""
    assert -(1 << 31) <= value < 1 << 31
    return int(value)


def zeros(count: int) -> Floats:
    """Return `count` (a literal) zeros."""
    return np.zeros(count, np.float32)


def fma_outer(total: Floats, x: Floats, w: Floats) -> Floats:
    """Return total + x wᵀ, a matrix of one row for each entry of x; each entry is rounded once."""
    outer = np.multiply.outer(np.asarray(x, np.float64), np.asarray(w, np.float64))
    return (total + outer.ravel()).astype(np.float32)


def shared_columns(address: int, stride: int, rows: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the four columns of a matrix in shared memory: `rows` (a literal) rows of four float32.

    Parameters
    ----------
    address : int
        Address of the first row.
    stride : int
        Bytes from one row to the next.
    rows : int
        Number of rows.

    Returns
    -------
    tuple
        Four columns of `rows` float32.
    """
    found = np.stack([shared_load_f32x4(address + i * stride) for i in range(rows)], axis=1)
    return found[0], found[1], found[2], found[3]


def round_tf32(value: np.float32) -> np.uint32:
    """Return the bits of a float32 rounded to TF32: 10 bits of fraction, ties away from zero."""
    bits = int(bits_of(value))
    if bits & 0x7F800000 == 0x7F800000:
        return np.uint32(bits)
    return np.uint32((bits + 0x1000) & 0xFFFFE000)


def pack_bf16(low: np.float32, high: np.float32) -> np.uint32:
    """Return a word of two float32 rounded to bfloat16, ties to even: `low` in its lower half, `high` in the upper."""
    halves = []
    for value in (low, high):
        bits = int(bits_of(value))
        if np.isnan(value):
            halves.append(0x7FFF)
        else:
            halves.append((bits + 0x7FFF + ((bits >> _HALF_WORD) & 1)) >> _HALF_WORD & 0xFFFF)
    return np.uint32(halves[0] | halves[1] << _HALF_WORD)


def shared_store_rows(address: int, stride: int, values: Floats) -> None:
    """Write rows of four float32 to shared memory; `stride` is the number of bytes from one row to the next."""
    for i in range(len(values) // 4):
        shared_store_f32x4(address + i * stride, values[4 * i : 4 * i + 4])


def shared_store_fragments(address: int, stride: int, across: int, values: Floats) -> None:
    """Write a lane's numbers of 16 x 8 tiles to a matrix in shared memory.

    Parameters
    ----------
    address : int
        Address of the lane's first number.
    stride : int
        Bytes from one row of the matrix to the next.
    across : int
        Number of tiles side by side, a literal.
    values : floats
        Four numbers a tile, as ``mma`` leaves them.
    """
    for tile in range(len(values) // 4):
        at = address + 16 * (tile // across) * stride + 8 * 4 * (tile % across)
        for half in range(2):
            first, second = values[4 * tile + 2 * half : 4 * tile + 2 * half + 2]
            shared_store_f32(at + 8 * half * stride, first)
            shared_store_f32(at + 8 * half * stride + 4, second)


def mma_tf32(total: Floats, a: Sequence[Any], b: Sequence[Any]) -> Floats:
    """Return total + A B, which a warp computes together, of TF32 numbers.

    A is a column of tiles of 16 x 8 numbers, B a row of tiles of 8 x 8. Numbers are spread over the lanes as the
    instruction ``mma.m16n8k8`` takes them.

    Parameters
    ----------
    total : floats
        The lane's sums: four a tile of the result.
    a : sequence of uint32
        The lane's numbers of A: four a tile.
    b : sequence of uint32
        The lane's numbers of B: two a tile.

    Returns
    -------
    floats
        The lane's new sums.
    """
    return simulator.running().matrix_multiply(total, a, b, "tf32")


def mma_bf16(total: Floats, a: Sequence[Any], b: Sequence[Any]) -> Floats:
    """Return total + A B as :func:`mma_tf32` does, of pairs of bfloat16.

    Tiles of A have 16 x 16 numbers, tiles of B 16 x 8, as the instruction ``mma.m16n8k16`` takes them.

    Parameters
    ----------
    total : floats
        The lane's sums: four a tile of the result.
    a : sequence of uint32
        The lane's pairs of A: four a tile.
    b : sequence of uint32
        The lane's pairs of B: two a tile.

    Returns
    -------
    floats
        The lane's new sums.
    """
    return simulator.running().matrix_multiply(total, a, b, "bf16")
