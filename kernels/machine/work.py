"""Divides work: into parts for threads, and into rows for register tiles.

Launchers and kernels share these functions.
"""

from typing import Any

from numba.extending import register_jitable

# With fewer multiply-adds, a second thread costs more than it saves. Opening a stage takes about 0.2 µs. A worker
# that spins sees it within 1 µs, and one that sleeps after about 10 µs. A core does 130 multiply-adds a nanosecond.
THREAD_WORK = 500_000

ELEMENT_WORK = 4
"""Multiply-adds that take as long as reading, computing and writing one element."""

MOVED_WORK = 32
"""Multiply-adds that take as long as copying one element to another layout, out of the second-level cache or beyond."""

PARTS_A_THREAD = 4
"""Number of parts for each thread. A thread that loses its core delays the others by only the part it is running."""


@register_jitable
def split(n: int, parts: int, part: int) -> tuple[int, int]:
    """Return the first and last (exclusive) item of range `part`, if `n` items are divided into `parts` even ranges."""
    return n * part // parts, n * (part + 1) // parts


@register_jitable
def tile_count(rows: int, tallest: int) -> int:
    """Return the number of register tiles that `rows` rows are divided into."""
    return (rows + tallest - 1) // tallest


@register_jitable
def tile_rows(rows: int, count: int, tile: int) -> int:
    """Return the number of rows of tile number `tile`.

    Tiles are as even as possible, and the taller ones come first.
    """
    return rows // count + (1 if tile < rows % count else 0)


@register_jitable
def tile_start(rows: int, count: int, tile: int) -> int:
    """Return the number of rows of the tiles before tile number `tile`."""
    return tile * (rows // count) + min(tile, rows % count)


def heights(rows: int, tallest: int) -> set[int]:
    """Return the different heights of the tiles that `rows` rows are divided into: one or two."""
    if rows == 0:
        return set()
    count = tile_count(rows, tallest)
    return {tile_rows(rows, count, 0), tile_rows(rows, count, count - 1)}


def range_sizes(n: int, parts: int) -> list[int]:
    """Return the sizes of the ranges into which :func:`split` divides `n` items."""
    return [last - first for first, last in (split(n, parts, part) for part in range(parts))]


def threads_for(work: int, limit: int, threads: int) -> int:
    """Return how many threads are worth using for `work` multiply-adds.

    Parameters
    ----------
    work : int
        Number of multiply-adds.
    limit : int
        The most pieces that the work can be divided into.
    threads : int
        Number of threads that there are.
    """
    return max(1, min(threads, limit, 1 + work // THREAD_WORK if work >= THREAD_WORK else 1))


def parts_for(work: int, limit: int, threads: int) -> int:
    """Return how many parts `work` multiply-adds are divided into.

    Every thread gets the same number of parts: `PARTS_A_THREAD`, or fewer if a part would have less than `THREAD_WORK`.

    Parameters
    ----------
    work : int
        Number of multiply-adds.
    limit : int
        The most pieces that the work can be divided into.
    threads : int
        Number of threads that there are.
    """
    sharing = threads_for(work, limit, threads)
    each = threads_for(work, limit, sharing * PARTS_A_THREAD) // sharing
    return sharing * each if sharing > 1 else 1


def grid(columns: int, rows: int, parts: int) -> tuple[int, int]:
    """Return (column parts, row parts), whose product is `parts`, such that the largest piece is as small as possible.

    If two divisions are equally good, the one with more column parts is taken.
    """

    def largest(shape: tuple[int, int]) -> Any:
        across, down = shape
        return -(-columns // across) * -(-rows // down), down

    shapes = [(across, parts // across) for across in range(1, parts + 1) if parts % across == 0]
    return min(shapes, key=largest)
