"""What the attention kernels of a GPU load: where operands lie, and how a block copies tiles of them.

A block of 128 threads owns 32 rows (queries, or keys) of a head, and goes through the rows that they meet 32 at a time.
*Factors* are what scores are products of, tiles of 32 rows and 32 columns; *values* are what scores are multiplied by,
tiles of 32 rows and 64 columns. In shared memory, rows of factors are 36 numbers apart: what the threads of a warp
read at once lies in different banks.
"""

from typing import NamedTuple

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.primitives import Address, Size, copy4, copy16, narrow, thread
from fgnumba.kernels.layout.heads import Heads
from fgnumba.kernels.machine.memory import address

THREADS = 128

SIDE = 32
"""Rows that a block owns, rows that it meets at a time, and columns of factors that it multiplies at a time."""

COLUMNS = 64
"""Columns of a result that a block computes."""

STRIDE, VALUE_STRIDE = 4 * (SIDE + 4), 4 * COLUMNS
"""Bytes of shared memory from one row to the next: of factors, and of scores, which take their place; of values."""

TILE, VALUES = SIDE * STRIDE, SIDE * VALUE_STRIDE
"""Bytes of a tile of either."""

_STEP = THREADS * 4 // SIDE  # rows that all threads copy at once


class Operand(NamedTuple):
    """Queries, keys, values, or another operand with the same axes.

    Parameters
    ----------
    address : Address
        Address of the primal's first element.
    block, example, head, row : Size
        Elements from one block of a dual buffer, example, head or position to the next.
    tangent : Size
        Whether there are tangents.
    """

    address: Address
    block: Size
    example: Size
    head: Size
    row: Size
    tangent: Size


class Sizes(NamedTuple):
    """Sizes of attention.

    Parameters
    ----------
    heads, shared : Size
        Number of heads H of queries, and of those that share a head of keys and values.
    queries, keys : Size
        Numbers of positions.
    size, values : Size
        Sizes of a head of queries and keys, and of values.
    wide : Size
        Whether each row of each operand begins at a multiple of 16 bytes.
    """

    heads: Size
    shared: Size
    queries: Size
    keys: Size
    size: Size
    values: Size
    wide: Size


def operand(heads: Heads) -> Operand:
    """Return heads as kernels take them."""
    at = address(heads.memory) + 4 * heads.start
    return Operand(at, heads.block, heads.example, heads.head, heads.row, int(heads.has_tangent))


def sizes(q: Heads, k: Heads, v: Heads, *others: Heads) -> Sizes:
    """Return the sizes of attention; `others` are what a kernel reads or writes beside queries, keys and values."""
    wide = all(
        stride % 4 == 0
        for one in map(operand, (q, k, v, *others))
        for stride in (one.address // 4, *one[1:5])
    )
    return Sizes(
        heads=q.shape[0],
        shared=q.shape[0] // k.shape[0],
        queries=q.shape[1],
        keys=k.shape[1],
        size=q.shape[2],
        values=v.shape[2],
        wide=int(wide),
    )


class Rows(NamedTuple):
    """Rows of an operand of which a thread copies some.

    Parameters
    ----------
    address : Address
        Address of the operand.
    at : Size
        Numbers from there to what the thread copies first; a block of a dual buffer has fewer than 2**31.
    row : Size
        Numbers from one row to the next.
    number : Size
        Number of rows, which may be more than a tile's.
    """

    address: Address
    at: Size
    row: Size
    number: Size


class Place(NamedTuple):
    """Where a thread copies to in a tile: four columns of every 16th row; of values, four more 32 columns on.

    Parameters
    ----------
    row, column : Size
        The first row, and the first column.
    at : Size
        Address of both in shared memory, in the first tile of factors.
    """

    row: Size
    column: Size
    at: Size


@device_function
def own_place(memory: int) -> Place:
    """Return where a thread copies to; tiles of factors begin at an address of shared memory."""
    r, c = narrow(thread() >> 3), narrow(4 * (thread() & 7))
    return Place(r, c, narrow(memory + r * STRIDE + 4 * c))


@device_function
def start(x: Operand, place: Place, example: int, head: int, row: int) -> int:
    """Return the numbers from an operand's address to what a thread copies first, of rows from a row of a head on."""
    return narrow(example * x.example + head * x.head + (row + place.row) * x.row + place.column)


@device_function
def stage_factors(place: Place, tile: int, x: Rows, column: int, columns: int, wide: int) -> None:
    """Begin to copy up to 32 rows and columns to shared memory, and zeros up to a whole number of four.

    Parameters
    ----------
    place : Place
        Where the thread copies to.
    tile : int
        Bytes from there to its place in the tile that is meant.
    x : Rows
        What is copied.
    column, columns : int
        The first column, and the number of columns from there on, which may be more than the tile's.
    wide : int
        Whether rows begin at multiples of 16 bytes.
    """
    at = narrow(place.at + tile)
    _stage(place, at, x, column, columns, wide, STRIDE)


@device_function
def stage_values(place: Place, first: int, x: Rows, column: int, columns: int, wide: int) -> None:
    """Begin to copy up to 32 rows and 64 columns to shared memory, as `stage_factors` does.

    Parameters
    ----------
    place : Place
        Where the thread copies to.
    first : int
        Bytes from the tiles of factors to the tile of values that is meant.
    x : Rows
        What is copied.
    column, columns : int
        The first column, and the number of columns from there on, which may be more than the tile's.
    wide : int
        Whether rows begin at multiples of 16 bytes.
    """
    at = narrow(place.at + first + place.row * (VALUE_STRIDE - STRIDE))
    _stage(place, at, x, column, columns, wide, VALUE_STRIDE)
    _stage(place, narrow(at + 4 * SIDE), x, narrow(column + SIDE), narrow(columns - SIDE), wide, VALUE_STRIDE)


@device_function
def _stage(place: Place, at: int, x: Rows, column: int, columns: int, wide: int, stride: int) -> None:
    left = narrow(columns - place.column)
    if left <= 0:
        return
    most = narrow(16 if left >= 4 else 4 * left)
    # The number of turns is not a constant: they would be unrolled, and their addresses kept in registers.
    r, from_here, end = place.row, narrow(x.at + column), narrow(min(SIDE, x.number + 3) & -4)
    while r < end:
        nbytes = most if r < x.number else narrow(0)
        source = x.address + 4 * from_here
        if wide:
            copy16(at, source, nbytes)
        else:
            copy4(at, source, narrow(4 if nbytes > 0 else 0))
            copy4(at + 4, source + 4, narrow(4 if nbytes > 4 else 0))
            copy4(at + 8, source + 8, narrow(4 if nbytes > 8 else 0))
            copy4(at + 12, source + 12, narrow(4 if nbytes > 12 else 0))
        r, at, from_here = narrow(r + _STEP), narrow(at + _STEP * stride), narrow(from_here + _STEP * x.row)
